"""Dense storage under a block-sparse product: live blocks out of a weight, and a weight out of live blocks.

`blocks.pack` and `unpack` do the same; here the way back is a gather too. XLA runs a scatter of blocks
on a CPU one after the other, and as a gather it is compiled into whatever reads it. Of float32 a CPU scatters whole
lines, which is faster from about half of the blocks up.
"""

import jax
import jax.numpy as jnp

from sparsity.kernels.blocks import check_packed, pack
from sparsity.kernels.layout import Layout, placed_rows


@jax.custom_vjp
def live_blocks(w: jax.Array, layout: Layout) -> jax.Array:
    """`pack(w, layout)`; the gradient of w is exactly 0 where no block lives."""
    return pack(w, layout)


def spread_blocks(packed: jax.Array, layout: Layout) -> jax.Array:
    """The weight (K, N) that packed blocks stand for, +0 where no block lives, as `unpack` gives it."""
    check_packed(packed, layout)
    (rows, cols), (br, bc) = layout.grid, layout.block
    place = places(layout)
    blocks = packed[jnp.minimum(place, layout.capacity - 1)]
    blocks = jnp.where((place < layout.capacity)[:, :, None, None], blocks, 0)
    wide = blocks.transpose(0, 2, 1, 3).reshape(rows * br, cols * bc)
    return wide[: layout.shape[0], : layout.shape[1]]


def places(layout: Layout) -> jax.Array:
    """int32 (R, C): the packed place of each block of the grid; `capacity` where none lives."""
    none = jnp.full(layout.grid, layout.capacity, jnp.int32)
    slots = jnp.arange(layout.capacity, dtype=jnp.int32)
    return none.at[placed_rows(layout), layout.cols].set(slots, mode="drop")


def _forwards(w: jax.Array, layout: Layout) -> tuple[jax.Array, Layout]:
    return pack(w, layout), layout


def _backwards(layout: Layout, gradient: jax.Array) -> tuple[jax.Array, None]:
    return spread_blocks(gradient, layout), None


live_blocks.defvjp(_forwards, _backwards)
