"""The product of block-sparse training and serving: x @ W of which only live blocks exist."""

import jax
import jax.numpy as jnp

from sparsity.kernels.activations import check_activation
from sparsity.kernels.blocks import check_packed, inside
from sparsity.kernels.layout import Layout
from sparsity.kernels.product import product


def block_sparse_matmul(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    *,
    bias: jax.Array | None = None,
    activation: str | None = None,
    scale: jax.Array | None = None,
    path: str = "auto",
) -> jax.Array:
    """activation(x @ (scale * W) + bias), as `reference.block_sparse_matmul` defines it.

    x:      (..., K), floating.
    packed: (capacity, rows, cols), the live blocks of W in the layout's order (`blocks.pack`), so that
            memory, gradients and optimiser state have the size of what lives.
    bias:   (N,).
    scale:  (capacity,), one number per block; it is multiplied into the packed blocks, never into W.
    path:   "auto" takes the kernel or the dense fall-back, whichever `explain` expects to be faster; "sparse"
            takes the kernel wherever there is one, "dense" the fall-back.
    The result is (..., N) in x's dtype; sums are in float32. Gradients of padding are exactly 0.
    Raises ValueError for shapes that do not fit, a dtype that is not floating, an unknown activation or path,
    and TypeError for what is no Layout.
    """
    if x.ndim == 0 or x.shape[-1] != _of(layout).shape[0]:
        raise ValueError(
            f"x of shape {x.shape} does not fit a weight of {layout.shape}: its last axis has to be "
            f"{layout.shape[0]}"
        )
    weights = weights_of(x, packed, layout, bias, scale)
    rows = x.reshape(-1, x.shape[-1])
    y = product(rows, weights, bias, layout, check_activation(activation), path=path)
    return y.reshape(*x.shape[:-1], layout.shape[1])


def weights_of(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    scale: jax.Array | None,
) -> jax.Array:
    """The packed blocks as backends take them: scaled, in x's dtype, finite beyond a ragged edge.

    Raises ValueError or TypeError for what does not fit the layout.
    """
    _check(x, packed, _of(layout), bias, scale)
    weights = packed if scale is None else _scaled(packed, scale, layout)
    if layout.ragged:
        weights = jnp.where(inside(layout), weights, 0)
    return weights.astype(x.dtype)


def _of(layout: Layout) -> Layout:
    if not isinstance(layout, Layout):
        raise TypeError(f"the third argument is a Layout, not {type(layout).__name__}")
    return layout


def _scaled(packed: jax.Array, scale: jax.Array, layout: Layout) -> jax.Array:
    """Each block times its number; in float32, so that the number's gradient is summed in it."""
    wide = jnp.promote_types(packed.dtype, jnp.float32)
    alive = layout.live[:, None, None]
    factor = jnp.where(layout.live, scale, 0).astype(wide)[:, None, None]
    return (jnp.where(alive, packed, 0).astype(wide) * factor).astype(packed.dtype)


def _check(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    scale: jax.Array | None,
) -> None:
    for what, array in (("x", x), ("packed", packed)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{what} is {array.dtype}; a product of blocks takes floating numbers")
    check_packed(packed, layout)
    for what, array, asked in (
        ("bias", bias, (layout.shape[1],)),
        ("scale", scale, (layout.capacity,)),
    ):
        if array is not None and array.shape != asked:
            raise ValueError(f"the {what} has shape {array.shape}, the layout asks for {asked}")
