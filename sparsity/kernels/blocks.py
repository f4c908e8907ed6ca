"""A weight's live blocks, packed one behind the other in the order of a layout, and the weight again."""

import jax
import jax.numpy as jnp

from sparsity.kernels.layout import Layout, placed_rows


def pack(w: jax.Array, layout: Layout) -> jax.Array:
    """The live blocks of w (K, N) as (capacity, rows, cols); 0 in padding and beyond ragged edges.

    NaN everywhere if the layout has more live blocks than room, so that none is lost in silence.
    """
    if w.shape != layout.shape:
        raise ValueError(f"a weight of {w.shape} does not fit a layout of {layout.shape}")
    (rows, cols), (br, bc) = layout.grid, layout.block
    edges = [(0, rows * br - w.shape[0]), (0, cols * bc - w.shape[1])]
    cut = jnp.pad(w, edges).reshape(rows, br, cols, bc)
    blocks = cut[layout.rows, :, layout.cols, :]
    kept = jnp.where(layout.live[:, None, None], blocks, jnp.zeros((), w.dtype))
    lost = layout.count > layout.capacity
    return jnp.where(lost, jnp.array(jnp.nan, w.dtype), kept)


def unpack(packed: jax.Array, layout: Layout) -> jax.Array:
    """The weight (K, N) that packed blocks stand for, 0 where no block lives."""
    check_packed(packed, layout)
    (rows, cols), (br, bc) = layout.grid, layout.block
    empty = jnp.zeros((rows, br, cols, bc), packed.dtype)
    cut = empty.at[placed_rows(layout), :, layout.cols, :].set(packed, mode="drop")
    return cut.reshape(rows * br, cols * bc)[: layout.shape[0], : layout.shape[1]]


def transposed_blocks(packed: jax.Array, layout: Layout) -> jax.Array:
    """(capacity, cols, rows): the blocks of the weight's transpose, in the order of `transposed`."""
    return packed[layout.by_row].swapaxes(1, 2)


def inside(layout: Layout) -> jax.Array:
    """bool (capacity, rows, cols): the entries of live blocks that lie within the weight."""
    (k, n), (br, bc) = layout.shape, layout.block
    row = layout.rows[:, None] * br + jnp.arange(br) < k
    col = layout.cols[:, None] * bc + jnp.arange(bc) < n
    return row[:, :, None] & col[:, None, :] & layout.live[:, None, None]


def check_packed(packed: jax.Array, layout: Layout) -> None:
    """ValueError where packed blocks are not (capacity, rows, cols) of the layout."""
    asked = (layout.capacity, *layout.block)
    if packed.shape != asked:
        raise ValueError(
            f"packed blocks of shape {packed.shape} do not fit the layout, which asks for {asked} "
            "(capacity, rows, cols)"
        )
