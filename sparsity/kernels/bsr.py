"""Block compressed sparse rows (BSR), as scipy and torch keep them, to packed matrices and back.

BSR holds the live blocks of A (rows, cols) by row of the grid: `crow` (R + 1,) says where each row begins,
`col` (live,) the column of each block, `values` (live, block rows, block cols). torch's linear layers keep
(outputs, inputs), the transpose of the weight that x is multiplied by from the right: `transpose=True` reads
and writes that one, whose order is already that of our layout.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from sparsity.kernels.columns import Columns, check_columns, columns_from, packed_of
from sparsity.kernels.packed import PackedMatrix, Reading


class Bsr(NamedTuple):
    """The arrays of a BSR matrix: `scipy.sparse.bsr_matrix((values, col, crow), shape)` and
    `torch.sparse_bsr_tensor(crow, col, values, size)` take them as they are."""

    crow: np.ndarray
    col: np.ndarray
    values: np.ndarray
    shape: tuple[int, int]


def from_bsr(
    crow: Any, col: Any, values: Any, shape: tuple[int, int], *, transpose: bool = False
) -> PackedMatrix:
    """The packed matrix of A, or of its transpose.

    Blocks may stand in any order within their row, and those that hold only zeros stay alive. Raises
    ValueError for a shape that blocks do not divide, indices out of range, a block that is there twice,
    and numbers that are not floating.
    """
    crow, col, values = (np.asarray(a) for a in (crow, col, values))
    shape = (int(shape[0]), int(shape[1]))
    if values.ndim != 3 or any(
        b == 0 or n % b for n, b in zip(shape, values.shape[1:], strict=True)
    ):
        raise ValueError(f"values of shape {values.shape} are no blocks of a matrix of {shape}")
    tall, wide = (n // b for n, b in zip(shape, values.shape[1:], strict=True))
    row = _rows(crow, col, values, tall)
    if wrong := col[(col < 0) | (col >= wide)].tolist():
        raise ValueError(f"its column indices hold {wrong[0]}, outside a grid of {(tall, wide)}")
    inner, outer, ends = (col, row, tall) if transpose else (row, col, wide)
    order = np.lexsort((inner, outer))
    starts = np.searchsorted(outer[order], np.arange(ends + 1))
    blocks = values[order].swapaxes(1, 2) if transpose else values[order]
    reading = Reading(shape[::-1] if transpose else shape)
    return packed_of(check_columns(Columns(blocks, inner[order], starts, reading)))


def to_bsr(matrix: PackedMatrix, *, transpose: bool = False) -> Bsr:
    """The BSR arrays of W, or of its transpose, blocks in order within their row.

    Raises ValueError where matrices are stacked, or where blocks do not divide the weight: BSR has
    whole blocks only.
    """
    if matrix.reading.stack or matrix.layout.ragged:
        raise ValueError(
            f"BSR holds one matrix in whole blocks, not {matrix.reading} in blocks of "
            f"{matrix.layout.block}: take a block that divides it, or write `dense()`"
        )
    columns = columns_from(matrix)
    col = np.repeat(np.arange(columns.grid[1]), np.diff(columns.starts))
    if transpose:
        blocks, shape = columns.blocks.swapaxes(1, 2), columns.reading.matrix[::-1]
        return Bsr(np.asarray(columns.starts), columns.rows, blocks, shape)
    order = np.lexsort((col, columns.rows))
    crow = np.searchsorted(columns.rows[order], np.arange(columns.grid[0] + 1))
    return Bsr(crow, col[order], columns.blocks[order], columns.reading.matrix)


def from_scipy(matrix: Any, *, transpose: bool = False) -> PackedMatrix:
    """`from_bsr` of a scipy.sparse.bsr_matrix or bsr_array."""
    parts = (matrix.indptr, matrix.indices, matrix.data)
    return from_bsr(*parts, matrix.shape, transpose=transpose)


def from_torch(tensor: Any, *, transpose: bool = False) -> PackedMatrix:
    """`from_bsr` of a torch.sparse_bsr tensor on any device; torch itself is not imported.

    A bfloat16 tensor stays bfloat16: numpy has no such dtype, so that its numbers go through float32.
    """
    crow, col = tensor.crow_indices().cpu().numpy(), tensor.col_indices().cpu().numpy()
    values = tensor.values().detach().cpu()
    half = str(values.dtype) == "torch.bfloat16"
    numbers = values.float().numpy().astype(jnp.bfloat16) if half else values.numpy()
    return from_bsr(crow, col, numbers, tuple(tensor.shape), transpose=transpose)


def _rows(crow: np.ndarray, col: np.ndarray, values: np.ndarray, tall: int) -> np.ndarray:
    """The row of the grid of each block."""
    for name, array, length in (("crow", crow, tall + 1), ("col", col, len(values))):
        if array.shape != (length,) or array.dtype.kind not in "iu":
            raise ValueError(
                f"its {name} is {array.dtype}{list(array.shape)}, not {length} integers"
            )
    steps = np.diff(crow.astype(np.int64))
    if crow[0] != 0 or crow[-1] != len(values) or (steps < 0).any():
        raise ValueError(f"its crow does not rise from 0 to the {len(values)} blocks there are")
    return np.repeat(np.arange(tall), steps)
