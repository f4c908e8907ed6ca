"""A weight of which only the live blocks are kept, whatever shape it has in its network.

A network holds its weights as arrays of any rank; a `Reading` says which axes are a matrix's rows, which its
columns, and which number matrices that are stacked (heads, scanned layers, experts).
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from sparsity.kernels.blocks import unpack
from sparsity.kernels.layout import Layout
from sparsity.kernels.ops import block_sparse_matmul


class Reading(NamedTuple):
    """How an array is read as matrices (K, N): the axes of each kind, merged in the order given.

    shape: of the array. stack: axes that number matrices. Each axis stands in one of the three.
    """

    shape: tuple[int, ...]
    rows: tuple[int, ...] = (0,)
    cols: tuple[int, ...] = (1,)
    stack: tuple[int, ...] = ()

    @property
    def matrix(self) -> tuple[int, int]:
        """(K, N) of each matrix."""
        return self._extent(self.rows), self._extent(self.cols)

    @property
    def matrices(self) -> int:
        """How many there are."""
        return self._extent(self.stack)

    def _extent(self, axes: tuple[int, ...]) -> int:
        return math.prod(self.shape[a] for a in axes)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("blocks", "layout"),
    meta_fields=("reading",),
)
@dataclasses.dataclass(frozen=True, eq=False)
class PackedMatrix:
    """Live blocks with their layout, in place of an array of shape `reading.shape`.

    blocks: (capacity, rows, cols); where matrices are stacked, (count, capacity, rows, cols), and each
            array of the layout has the same axis in front.
    """

    blocks: Any
    layout: Layout
    reading: Reading

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the array it stands for."""
        return self.reading.shape

    @property
    def dtype(self) -> Any:
        """That of its blocks."""
        return self.blocks.dtype

    @property
    def live(self) -> int:
        """Live blocks, of all matrices; waits for the device."""
        return int(np.sum(self.layout.count))

    @property
    def density(self) -> float:
        """Live blocks over all blocks."""
        return self.live / (self.reading.matrices * math.prod(self.layout.grid))

    def matmul(self, x: jax.Array, **fused: Any) -> jax.Array:
        """x (..., K) @ W, with the options of `ops.block_sparse_matmul`. ValueError for stacked ones."""
        if self.reading.stack:
            raise ValueError(f"{self.reading.matrices} matrices are stacked here: use jax.vmap")
        return block_sparse_matmul(x, self.blocks, self.layout, **fused)

    def dense(self) -> jax.Array:
        """The array it stands for, 0 where no block lives."""
        run = jax.vmap(unpack) if self.reading.stack else unpack
        return array_of(run(self.blocks, self.layout), self.reading)


def matrices_of(array: Any, reading: Reading) -> Any:
    """The array as (count, K, N), or (K, N) where none are stacked."""
    if tuple(array.shape) != reading.shape:
        raise ValueError(f"an array of {tuple(array.shape)} is not read as {reading}")
    stacked = array.transpose((*reading.stack, *reading.rows, *reading.cols))
    return stacked.reshape((*([reading.matrices] if reading.stack else []), *reading.matrix))


def array_of(matrices: Any, reading: Reading) -> Any:
    """`matrices_of` backwards."""
    order = (*reading.stack, *reading.rows, *reading.cols)
    cut = matrices.reshape([reading.shape[a] for a in order])
    return cut.transpose([order.index(a) for a in range(len(order))])


def check_reading(reading: Reading) -> Reading:
    """The reading. Raises ValueError where an axis stands nowhere or twice."""
    named = sorted((*reading.stack, *reading.rows, *reading.cols))
    if named != list(range(len(reading.shape))) or not (reading.rows and reading.cols):
        raise ValueError(f"{reading} has to name each axis of its shape once, rows and columns too")
    return reading
