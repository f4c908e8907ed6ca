"""A packed weight on its way through a network's function: casts, transposes and slices of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from sparsity.kernels.packed import PackedMatrix, Reading


class Held(NamedTuple):
    """A packed weight on its way to where it is multiplied by.

    whole: the same as an array, where it was given as well; it moves along.
    """

    path: str
    matrix: PackedMatrix
    whole: Any = None

    @property
    def dense(self) -> jax.Array:
        """The array it stands for."""
        return self.matrix.dense() if self.whole is None else self.whole


def packed_one(weight: Any) -> Any:
    """A weight as it is, the packed one of a pair."""
    return weight[0] if isinstance(weight, tuple) else weight


def held(path: str, weight: Any) -> Any:
    """A packed weight, or a pair of the packed and the dense one, as Held; an array as it is."""
    if isinstance(weight, tuple):
        return Held(path, *weight)
    return Held(path, weight) if isinstance(weight, PackedMatrix) else weight


def _cast(params: Mapping[str, Any], held: Held) -> Held:
    matrix, dtype = held.matrix, params["new_dtype"]
    packed = PackedMatrix(matrix.blocks.astype(dtype), matrix.layout, matrix.reading)
    return Held(held.path, packed, None if held.whole is None else held.whole.astype(dtype))


def _transposed(params: Mapping[str, Any], held: Held) -> Held:
    matrix, order = held.matrix, tuple(params["permutation"])
    old = matrix.reading
    moved = [tuple(order.index(axis) for axis in axes) for axes in (old.rows, old.cols, old.stack)]
    reading = Reading(tuple(old.shape[axis] for axis in order), *moved)
    whole = None if held.whole is None else held.whole.transpose(order)
    return Held(held.path, PackedMatrix(matrix.blocks, matrix.layout, reading), whole)


MOVES = {"convert_element_type": _cast, "transpose": _transposed}


def sliced(path: str, x: Any) -> Any:
    """One turn's part of a stack, (matrix, whole), which no longer has the stack's axis; "" for an array's."""
    if not path:
        return x
    matrix, whole = x
    old = matrix.reading
    rows, cols = (tuple(axis - 1 for axis in axes) for axes in (old.rows, old.cols))
    reading = Reading(old.shape[1:], rows, cols)
    return Held(path, PackedMatrix(matrix.blocks, matrix.layout, reading), whole)
