"""Where the live blocks of a weight matrix lie: a value with a static capacity and a dynamic count.

A weight W of shape (K, N) is cut into a grid of R x C blocks of (rows, cols) entries, the last ones ragged
where the block does not divide. Live blocks are kept packed, as (capacity, rows, cols), sorted by column of
the grid and then by row. Packed places at `count` and above are padding: no kernel reads them.

All indices are computed on the device from the mask, under jit, without a sort: a new mask of the same
shape and capacity has the same types, so nothing compiles again.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "count",
        "rows",
        "cols",
        "col_starts",
        "by_row",
        "row_starts",
        "cols_by_count",
        "rows_by_count",
    ),
    meta_fields=("shape", "block", "capacity"),
)
@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Grouped compressed columns, and the same blocks by row for the transposed product.

    shape:      (K, N), entries of the weight. Static, as are block and capacity.
    block:      (rows, cols), entries of a block.
    capacity:   live blocks that there is room for, at least 1.
    count:      int32 scalar, live blocks; more than capacity is an error that `validate` names and that
                `pack` answers with NaN.
    rows, cols: int32 (capacity,), the place of each packed block in the grid. Padding holds the grid's last
                block, so that reading there is never out of range.
    col_starts: int32 (C + 1,), the packed blocks of column c are col_starts[c] to col_starts[c + 1].
    by_row:     int32 (capacity,), a permutation: packed places sorted by (row, column), padding last.
    row_starts: int32 (R + 1,), the blocks of row r are by_row[row_starts[r] : row_starts[r + 1]].
    cols_by_count, rows_by_count: int32 (C,) and (R,), the columns, and the rows, by how many live blocks they
                have, most first: in this order kernels share them out evenly.

    Stacked layouts (heads, scanned layers, experts) hold one more axis in front of each array: use vmap.
    """

    shape: tuple[int, int]
    block: tuple[int, int]
    capacity: int
    count: jax.Array
    rows: jax.Array
    cols: jax.Array
    col_starts: jax.Array
    by_row: jax.Array
    row_starts: jax.Array
    cols_by_count: jax.Array
    rows_by_count: jax.Array

    @property
    def grid(self) -> tuple[int, int]:
        """(R, C), blocks along each axis of the weight."""
        return grid_of(self.shape, self.block)

    @property
    def ragged(self) -> bool:
        """Whether the last row or column of blocks reaches beyond the weight."""
        return any(n % b for n, b in zip(self.shape, self.block, strict=True))

    @property
    def live(self) -> jax.Array:
        """bool (capacity,): which packed places hold a block."""
        return jnp.arange(self.capacity) < self.count


# How many arrays a layout holds.
ARRAYS = len(
    [f for f in dataclasses.fields(Layout) if f.name not in ("shape", "block", "capacity")]
)


def grid_of(shape: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    """Blocks along each axis. Raises ValueError where shape or block is not two positive integers."""
    for what, pair in (("shape", shape), ("block", block)):
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(_positive(n) for n in pair)):
            raise ValueError(f"a layout's {what} is two positive integers, not {pair!r}")
    return -(-shape[0] // block[0]), -(-shape[1] // block[1])


def from_mask(
    mask: Any, shape: tuple[int, int], block: tuple[int, int], capacity: int | None = None
) -> Layout:
    """The layout of a mask of blocks: bool (R, C), True where alive; 0/1 numbers will do.

    capacity: None takes the mask's own count, which needs a mask that is not traced. Raises ValueError
    for a mask of another shape than the grid, and for more live blocks than capacity; where the mask is
    traced the latter shows in `validate` and as NaN in whatever is packed.
    """
    grid = grid_of(shape, block)
    if np.shape(mask) != grid:
        raise ValueError(
            f"a mask of {np.shape(mask)} blocks does not fit a weight of {shape} in blocks of {block}, "
            f"which has a grid of {grid}"
        )
    traced = isinstance(mask, jax.core.Tracer)
    if traced and capacity is None:
        raise ValueError("the capacity cannot be read from a traced mask; give it as an integer")
    count = 0 if traced else int(np.count_nonzero(mask))
    capacity = max(count, 1) if capacity is None else capacity
    if not _positive(capacity):
        raise ValueError(f"a layout's capacity is a positive integer, not {capacity!r}")
    if count > capacity:
        raise ValueError(f"the mask has {count} live blocks, the layout has room for {capacity}")
    return _built(jnp.asarray(mask, bool), shape, block, capacity)


def mask_of(layout: Layout) -> jax.Array:
    """bool (R, C): the mask that the layout was built from."""
    rows, cols = placed_rows(layout), layout.cols
    return jnp.zeros(layout.grid, bool).at[rows, cols].set(True, mode="drop")


def transposed(layout: Layout) -> Layout:
    """The layout of the weight's transpose; packed blocks go there by `transposed_blocks`."""
    inverse = jnp.zeros_like(layout.by_row).at[layout.by_row].set(_places(layout))
    return Layout(
        shape=layout.shape[::-1],
        block=layout.block[::-1],
        capacity=layout.capacity,
        count=layout.count,
        rows=layout.cols[layout.by_row],
        cols=layout.rows[layout.by_row],
        col_starts=layout.row_starts,
        by_row=inverse,
        row_starts=layout.col_starts,
        cols_by_count=layout.rows_by_count,
        rows_by_count=layout.cols_by_count,
    )


def by_count(starts: jax.Array) -> jax.Array:
    """Lines of the grid by their live counts, most first and equal ones in order: each counts those ahead of it.

    starts: int32 (L + 1,), the first place of each line, and the end.
    """
    counts = starts[1:] - starts[:-1]
    line = jnp.arange(counts.size, dtype=jnp.int32)
    ahead = (counts > counts[:, None]) | ((counts == counts[:, None]) & (line < line[:, None]))
    # No scatter, which on an accelerator is two kernels more.
    rank = jnp.sum(ahead, axis=1, dtype=jnp.int32)
    return jnp.sum(jnp.where(rank == line[:, None], line, 0), axis=1, dtype=jnp.int32)


@functools.partial(jax.jit, static_argnames=("shape", "block", "capacity"))
def _built(
    mask: jax.Array, shape: tuple[int, int], block: tuple[int, int], capacity: int
) -> Layout:
    grid = mask.shape
    last = mask.size - 1
    # Live blocks in order of (column, row), then in order of (row, column).
    by_col = jnp.nonzero(mask.T.ravel(), size=capacity, fill_value=last)[0].astype(jnp.int32)
    in_rows = jnp.nonzero(mask.ravel(), size=capacity, fill_value=last)[0].astype(jnp.int32)
    row, col = in_rows // grid[1], in_rows % grid[1]
    place = jnp.cumsum(mask.T.ravel(), dtype=jnp.int32) - 1
    slot = jnp.arange(capacity, dtype=jnp.int32)
    count = jnp.sum(mask, dtype=jnp.int32)
    by_row = jnp.where(slot < count, place[col * grid[0] + row], slot)
    return Layout(
        shape=shape,
        block=block,
        capacity=capacity,
        count=count,
        rows=by_col % grid[0],
        cols=by_col // grid[0],
        col_starts=_starts(mask, 0, capacity),
        by_row=jnp.minimum(by_row, capacity - 1),
        row_starts=_starts(mask, 1, capacity),
        cols_by_count=by_count(_starts(mask, 0, mask.size)),
        rows_by_count=by_count(_starts(mask, 1, mask.size)),
    )


def _starts(mask: jax.Array, axis: int, capacity: int) -> jax.Array:
    ends = jnp.cumsum(jnp.sum(mask, axis, dtype=jnp.int32), dtype=jnp.int32)
    return jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.minimum(ends, capacity)])


def placed_rows(layout: Layout) -> jax.Array:
    """The rows of live blocks; beyond the grid for padding, where a scatter drops it."""
    return jnp.where(layout.live, layout.rows, layout.grid[0])


def _places(layout: Layout) -> jax.Array:
    return jnp.arange(layout.capacity, dtype=jnp.int32)


def _positive(n: Any) -> bool:
    return bool(isinstance(n, int | np.integer) and not isinstance(n, bool) and n > 0)
