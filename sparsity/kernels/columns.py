"""Compressed block columns on the host: what files hold, what BSR becomes, and what a layout is made of.

Everything here is numpy, so that a model is loaded without anything being compiled.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparsity.kernels.layout import Layout, grid_of
from sparsity.kernels.packed import PackedMatrix, Reading, check_reading, matrices_of


class Columns(NamedTuple):
    """Live blocks in order of (matrix of the stack, column of the grid, row of the grid).

    blocks: (live, rows, cols), 0 beyond ragged edges.
    rows:   (live,), the row of the grid of each block.
    starts: (count * C + 1,), the blocks of column c of matrix s are starts[s * C + c] to the next.
    """

    blocks: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    reading: Reading

    @property
    def block(self) -> tuple[int, int]:
        """(rows, cols), entries of a block."""
        return self.blocks.shape[1], self.blocks.shape[2]

    @property
    def grid(self) -> tuple[int, int]:
        """(R, C), blocks along each axis of a matrix."""
        return grid_of(self.reading.matrix, self.block)


def columns_of(
    array: Any, block: tuple[int, int], mask: Any = None, reading: Reading | None = None
) -> Columns:
    """An array that is kept with its zeros.

    mask: bool (R, C), or (count, R, C) where matrices are stacked; what its dead blocks hold, NaN
          included, is left out. None: a block is dead where all of it is 0.
    Raises ValueError for a reading, a block or a mask that does not fit, and for numbers that are not
    floating.
    """
    host = np.asarray(array)
    reading = check_reading(Reading(host.shape) if reading is None else reading)
    grid, count = grid_of(reading.matrix, block), reading.matrices
    cut = _cut(matrices_of(host, reading).reshape(count, *reading.matrix), grid, block)
    alive = np.any(cut != 0, (2, 4)) if mask is None else np.asarray(mask, bool)
    if alive.shape != (count, *grid) and (reading.stack or alive.shape != grid):
        raise ValueError(
            f"a mask of {alive.shape} blocks does not fit a weight of {reading.matrix} in blocks of "
            f"{block}, which has a grid of {grid}, {count} times"
        )
    stack, cols, rows = np.nonzero(alive.reshape(count, *grid).swapaxes(1, 2))
    starts = np.searchsorted(stack * grid[1] + cols, np.arange(count * grid[1] + 1))
    return check_columns(Columns(cut[stack, rows, :, cols, :], rows, starts, reading))


def check_columns(columns: Columns) -> Columns:
    """The columns, indices as int32. Raises ValueError in words for what no mask could have given."""
    if columns.blocks.ndim != 3 or not jnp.issubdtype(columns.blocks.dtype, jnp.floating):
        raise ValueError(
            f"the blocks are {columns.blocks.dtype}{list(columns.blocks.shape)}, and no floating "
            "numbers (live, rows, cols): there is no product of them"
        )
    check_reading(columns.reading)
    live, size = len(columns.blocks), columns.grid[0]
    rows, starts = (np.asarray(a) for a in (columns.rows, columns.starts))
    for name, array, length in (
        ("rows", rows, live),
        ("starts", starts, columns.reading.matrices * columns.grid[1] + 1),
    ):
        if array.shape != (length,) or array.dtype.kind not in "iu":
            raise ValueError(
                f"its {name} are {array.dtype}{list(array.shape)}, not {length} integers"
            )
    steps = np.diff(starts.astype(np.int64))
    if starts[0] != 0 or starts[-1] != live or (steps < 0).any():
        raise ValueError(f"its starts do not rise from 0 to the {live} blocks that there are")
    if wrong := rows[(rows < 0) | (rows >= size)].tolist():
        raise ValueError(f"its rows hold {wrong[0]}, outside a grid of {columns.grid}")
    places = np.repeat(np.arange(len(steps)), steps) * size + rows
    if (falls := np.flatnonzero(np.diff(places) <= 0)).size:
        pair = f"blocks {falls[0]} and {falls[0] + 1}"
        raise ValueError(f"{pair} are not sorted by (column, row), or stand in one place")
    return columns._replace(rows=rows.astype(np.int32), starts=starts.astype(np.int32))


def packed_of(columns: Columns) -> PackedMatrix:
    """The packed matrix, on the default device; its capacity is the live count, 1 at least."""
    reading, (_, wide) = columns.reading, columns.grid
    bounds = np.asarray(columns.starts)[::wide][: reading.matrices + 1]
    capacity = max(1, int(np.diff(bounds).max()))
    parts = [_one(columns, s, capacity) for s in range(reading.matrices)]
    joined = np.stack if reading.stack else lambda arrays: arrays[0]
    blocks, layout = jax.tree.map(lambda *arrays: jnp.asarray(joined(arrays)), *parts)
    return PackedMatrix(blocks, layout, reading)


def columns_from(matrix: PackedMatrix) -> Columns:
    """`packed_of` backwards; what lies in padding is left out.

    Raises ValueError for blocks that are not those of the layout, and for more live blocks than room.
    """
    count = _check_whole(matrix).reading.matrices
    host = jax.tree.map(np.asarray, (matrix.blocks, matrix.layout))
    if not matrix.reading.stack:
        host = jax.tree.map(lambda a: a[None], host)
    blocks, layout = host
    ends = np.concatenate([[0], np.cumsum(layout.count)])
    live = np.arange(layout.capacity) < layout.count[:, None]
    starts = [layout.col_starts[s, :-1] + ends[s] for s in range(count)] + [ends[-1:]]
    return check_columns(
        Columns(blocks[live], layout.rows[live], np.concatenate(starts), matrix.reading)
    )


def from_array(
    array: Any, block: tuple[int, int], mask: Any = None, reading: Reading | None = None
) -> PackedMatrix:
    """`columns_of`, packed."""
    return packed_of(columns_of(array, block, mask, reading))


def _check_whole(matrix: PackedMatrix) -> PackedMatrix:
    reading, layout = matrix.reading, matrix.layout
    if layout.shape != reading.matrix:
        raise ValueError(f"a layout of {layout.shape} does not fit matrices of {reading.matrix}")
    stack = (reading.matrices,) if reading.stack else ()
    if matrix.blocks.shape != (asked := (*stack, layout.capacity, *layout.block)):
        raise ValueError(f"blocks of shape {matrix.blocks.shape} do not fit the layout's, {asked}")
    if (most := int(np.max(layout.count))) > layout.capacity:
        raise ValueError(f"the layout has {most} live blocks and room for {layout.capacity}")
    return matrix


def _cut(matrices: np.ndarray, grid: tuple[int, int], block: tuple[int, int]) -> np.ndarray:
    """(count, K, N) -> (count, R, rows, C, cols), 0 beyond ragged edges."""
    edges = [(0, g * b - n) for g, b, n in zip(grid, block, matrices.shape[1:], strict=True)]
    padded = np.pad(matrices, [(0, 0), *edges])
    return padded.reshape(len(matrices), grid[0], block[0], grid[1], block[1])


def _one(columns: Columns, s: int, capacity: int) -> tuple[np.ndarray, Layout]:
    """The s-th matrix's blocks and layout, as `layout.from_mask` would have made it."""
    tall, wide = columns.grid
    starts = np.asarray(columns.starts)[s * wide : (s + 1) * wide + 1]
    own, room = slice(starts[0], starts[-1]), capacity - (starts[-1] - starts[0])
    rows = np.asarray(columns.rows)[own]
    cols = np.repeat(np.arange(wide), np.diff(starts))
    by_row = np.concatenate([np.lexsort((cols, rows)), np.arange(len(rows), capacity)])
    indices: dict[str, Any] = {
        "count": len(rows),
        "rows": np.pad(rows, (0, room), constant_values=tall - 1),
        "cols": np.pad(cols, (0, room), constant_values=wide - 1),
        "col_starts": starts - starts[0],
        "by_row": by_row,
        "row_starts": np.searchsorted(np.sort(rows), np.arange(tall + 1)),
        "cols_by_count": _by_count(cols, wide),
        "rows_by_count": _by_count(rows, tall),
    }
    indices = {name: np.asarray(found, np.int32) for name, found in indices.items()}
    layout = Layout(columns.reading.matrix, columns.block, capacity, **indices)
    return np.pad(columns.blocks[own], ((0, room), (0, 0), (0, 0))), layout


def _by_count(lines: np.ndarray, size: int) -> np.ndarray:
    """Columns or rows by how many blocks name them, most first."""
    return np.argsort(-np.bincount(lines, minlength=size), stable=True)
