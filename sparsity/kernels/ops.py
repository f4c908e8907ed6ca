"""The block-sparse product with its gradients: one custom_vjp over the backends.

A backend is a module with four functions of two-dimensional arrays of one dtype:

    refusal(layout, dtype) -> str             # why it cannot run, in words; "" where it can. Static only:
                                              # shape, block, capacity
    forward(x, packed, layout, bias, activation) -> y     # x (M, K), y (M, N): act(x @ W + bias)
    dx(dy, packed, layout) -> dx                          # dy (M, N), dx (M, K): dy @ W.T
    dw(x, dy, layout) -> dw                               # (capacity, rows, cols): x.T @ dy at live blocks

bias is (N,) or None, activation a name of `activations`; sums are in float32, results in x's dtype. A
backend never reads packed places at `count` and above and returns 0 there; entries of ragged blocks beyond
the weight are finite zeros when it is called. It is traced on every platform, so its module must import
on a bare jax, and lowered on its own only. What it refuses, and what no backend serves, is run dense.
"""

import functools
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsity.kernels import cpu, dense
from sparsity.kernels.activations import ACTIVATIONS, check_activation
from sparsity.kernels.layout import Layout, check_packed, inside
from sparsity.kernels.manual import vary_alike

# What serves a platform; lax.platform_dependent's names. tpu and cuda join here.
BACKENDS: dict[str, ModuleType] = {"cpu": cpu}


def block_sparse_matmul(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    *,
    bias: jax.Array | None = None,
    activation: str | None = None,
    scale: jax.Array | None = None,
) -> jax.Array:
    """activation(x @ (scale * W) + bias), as `reference.block_sparse_matmul` defines it.

    x:      (..., K), floating.
    packed: (capacity, rows, cols), the live blocks of W in the layout's order (`layout.pack`), so that
            memory, gradients and optimiser state have the size of what lives.
    bias:   (N,).
    scale:  (capacity,), one number per block; it is multiplied into the packed blocks, never into W.
    The result is (..., N) in x's dtype; sums are in float32. Gradients of padding are exactly 0.
    Raises ValueError for shapes that do not fit, a dtype that is not floating, an unknown activation, and
    TypeError for what is no Layout.
    """
    _check(x, packed, layout, bias, scale)
    name = check_activation(activation)
    weights = packed if scale is None else _scaled(packed, scale, layout)
    if layout.ragged:
        weights = jnp.where(inside(layout), weights, 0)
    rows = x.reshape(-1, x.shape[-1])
    y = _product(*vary_alike((rows, weights.astype(x.dtype), bias, layout)), name)
    return y.reshape(*x.shape[:-1], layout.shape[1])


def _scaled(packed: jax.Array, scale: jax.Array, layout: Layout) -> jax.Array:
    """Each block times its number; in float32, so that the number's gradient is summed in it."""
    wide = jnp.promote_types(packed.dtype, jnp.float32)
    alive = layout.live[:, None, None]
    factor = jnp.where(layout.live, scale, 0).astype(wide)[:, None, None]
    return (jnp.where(alive, packed, 0).astype(wide) * factor).astype(packed.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _product(
    x: jax.Array, packed: jax.Array, bias: jax.Array | None, layout: Layout, activation: str
) -> jax.Array:
    return _on_platform("forward", layout, x, packed, layout, bias, activation=activation)


def _product_fwd(x, packed, bias, layout, activation):
    if activation != "gelu":  # whose derivative cannot be read off its value
        y = _product(x, packed, bias, layout, activation)
        return y, (x, packed, bias, layout, y if activation == "relu" else None)
    z = _product(x, packed, bias, layout, "none")
    return ACTIVATIONS[activation](z), (x, packed, bias, layout, z)


def _product_bwd(activation, saved, dy):
    x, packed, bias, layout, z = saved
    if activation == "relu":
        dy = jnp.where(z > 0, dy, 0)
    elif activation == "gelu":
        (dy,) = jax.vjp(ACTIVATIONS[activation], z)[1](dy)
    dx = _on_platform("dx", layout, dy, packed, layout)
    dw = _on_platform("dw", layout, x, dy, layout)
    wide = jnp.promote_types(dy.dtype, jnp.float32)
    dbias = None if bias is None else jnp.sum(dy, 0, dtype=wide).astype(bias.dtype)
    return dx, dw, dbias, None


_product.defvjp(_product_fwd, _product_bwd)


def backend_of(platform: str, layout: Layout, dtype: Any) -> tuple[ModuleType, str]:
    """The backend that runs on a platform ("cpu", "tpu", "cuda"), and why not the platform's own, or ""."""
    if platform not in BACKENDS:
        return dense, f"there is no block-sparse kernel for {platform}"
    reason = BACKENDS[platform].refusal(layout, jnp.dtype(dtype))
    return (dense, reason) if reason else (BACKENDS[platform], "")


def _on_platform(verb: str, layout: Layout, *args: Any, **static: Any) -> jax.Array:
    """The verb of whichever backend serves the platform that the program is lowered for."""
    dtype = args[0].dtype
    branches = {
        platform: functools.partial(getattr(backend_of(platform, layout, dtype)[0], verb), **static)
        for platform in BACKENDS
    }
    return lax.platform_dependent(
        *args, default=functools.partial(getattr(dense, verb), **static), **branches
    )


def _check(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    scale: jax.Array | None,
) -> None:
    if not isinstance(layout, Layout):
        raise TypeError(f"the third argument is a Layout, not {type(layout).__name__}")
    for what, array in (("x", x), ("packed", packed)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{what} is {array.dtype}; a product of blocks takes floating numbers")
    if not x.ndim or x.shape[-1] != layout.shape[0]:
        raise ValueError(
            f"x of shape {x.shape} does not fit a weight of {layout.shape}: its last axis has to be "
            f"{layout.shape[0]}"
        )
    check_packed(packed, layout)
    for what, array, asked in (
        ("bias", bias, (layout.shape[1],)),
        ("scale", scale, (layout.capacity,)),
    ):
        if array is not None and array.shape != asked:
            raise ValueError(f"the {what} has shape {array.shape}, the layout asks for {asked}")
