"""The differentiable product: one custom_vjp for matrices and convolutions, whatever backend computes it."""

import functools

import jax
import jax.numpy as jnp

from sparsity.kernels.activations import ACTIVATIONS, before
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import Layout
from sparsity.kernels.lowering import PATHS, bind, call_of
from sparsity.kernels.manual import vary_alike


def product(
    x: jax.Array,
    packed: jax.Array,
    bias: jax.Array | None,
    layout: Layout,
    activation: str,
    geometry: Geometry | None = None,
    path: str = "auto",
) -> jax.Array:
    """activation(x W + bias) on whichever backend serves the platform; differentiable in x, packed, bias.

    x is (M, K), or images (count, height, width, channels) with a geometry; all arguments fit already.
    Raises ValueError for a path that does not exist.
    """
    if path not in PATHS:
        raise ValueError(f"a product's path is one of {', '.join(PATHS)}, not {path!r}")
    return _product(*vary_alike((x, packed, bias, layout)), activation, geometry, path)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
def _product(x, packed, bias, layout, activation, geometry, path):
    call = call_of("forward", x, layout, activation=activation, geometry=geometry, path=path)
    return bind(call, layout, x, packed, *(() if bias is None else (bias,)))


def _product_fwd(x, packed, bias, layout, activation, geometry, path):
    if activation != "gelu":
        y = _product(x, packed, bias, layout, activation, geometry, path)
        return y, (x, packed, bias, layout, y if activation == "relu" else None)
    # Its derivative cannot be read off its value.
    z = _product(x, packed, bias, layout, "none", geometry, path)
    return ACTIVATIONS[activation](z), (x, packed, bias, layout, z)


def _product_bwd(activation, geometry, path, saved, dy):
    x, packed, bias, layout, found = saved
    dy = before(activation, found, dy)
    static = {"geometry": geometry, "path": path}
    dx = bind(call_of("dx", dy, layout, **static), layout, dy, packed)
    dw = bind(call_of("dw", x, layout, **static), layout, x, dy)
    wide = jnp.promote_types(dy.dtype, jnp.float32)
    over = tuple(range(dy.ndim - 1))
    dbias = None if bias is None else jnp.sum(dy, over, dtype=wide).astype(bias.dtype)
    return dx, dw, dbias, None


_product.defvjp(_product_fwd, _product_bwd)
