"""A contraction of activations with one weight, as the block-sparse product that equals it.

Each function takes a jaxpr's equation parameters and gives back the product, or says in words why there is no
such product: then the weight is unpacked and the equation runs as it stands. `path` is that of
`ops.block_sparse_matmul`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparsity.kernels.blocks import transposed_blocks
from sparsity.kernels.calls import Call
from sparsity.kernels.convolution import block_sparse_convolution
from sparsity.kernels.geometry import Geometry, geometry_of
from sparsity.kernels.layout import transposed
from sparsity.kernels.packed import PackedMatrix


class Product(NamedTuple):
    """What computes a contraction's result, and the facts that decide whether it should (`kernels.choice`)."""

    run: Callable[[], jax.Array]
    call: Call


Found = Product | str


def dot(params: Mapping[str, Any], x: Any, matrix: PackedMatrix, side: int, path: str) -> Found:
    """dot_general of a weight (operand `side`: 0 left, 1 right) and x (the other), of any rank."""
    contracted, batched = params["dimension_numbers"]
    if batched[side] or matrix.reading.stack:
        return "one matrix for each entry of a batch"
    if problem := _unfit(params, x):
        return problem
    along = _along(matrix, contracted[side])
    if along is None:
        return f"contracted along axes {contracted[side]}, which are not its rows or columns"
    theirs = dict(zip(contracted[side], contracted[1 - side], strict=True))
    last = tuple(theirs[axis] for axis in along.reading.rows)
    count = x.size // along.reading.matrix[0]
    run = functools.partial(_multiplied, x, along, last, side, path)
    return Product(run, _call(count, x, along, path))


def _along(matrix: PackedMatrix, axes: tuple[int, ...]) -> PackedMatrix | None:
    """The weight with these axes as its rows: itself, its transpose, or nothing."""
    reading = matrix.reading
    if {*axes} == {*reading.rows}:
        return matrix
    if {*axes} != {*reading.cols}:
        return None
    blocks = transposed_blocks(matrix.blocks, matrix.layout)
    turned = reading._replace(rows=reading.cols, cols=reading.rows)
    return PackedMatrix(blocks, transposed(matrix.layout), turned)


def _multiplied(
    x: Any, matrix: PackedMatrix, last: tuple[int, ...], side: int, path: str
) -> jax.Array:
    """x with the axes `last` against the matrix's rows, in dot_general's order of axes."""
    reading = matrix.reading
    free = [axis for axis in range(x.ndim) if axis not in last]
    rows = x.transpose((*free, *last)).reshape((*(x.shape[a] for a in free), reading.matrix[0]))
    y = matrix.matmul(rows, path=path).reshape(
        (*(x.shape[a] for a in free), *(reading.shape[a] for a in reading.cols))
    )
    own = [len(free) + i for i in sorted(range(len(reading.cols)), key=reading.cols.__getitem__)]
    others = list(range(len(free)))
    return y.transpose((*own, *others) if side == 0 else (*others, *own))


def _call(
    count: int, x: Any, matrix: PackedMatrix, path: str, geometry: Geometry | None = None
) -> Call:
    layout = matrix.layout
    static = layout.shape, layout.block, layout.capacity
    return Call("forward", count, *static, x.dtype.name, geometry=geometry, path=path)


# Images (count, height, width, channels) and kernels (height, width, channels, outputs).
NHWC, HWIO = (0, 3, 1, 2), (3, 2, 0, 1)


def convolution(
    params: Mapping[str, Any], x: Any, matrix: PackedMatrix, side: int, path: str
) -> Found:
    """conv_general_dilated of images and a weight that is read as (taps * channels, outputs)."""
    numbers, reading = params["dimension_numbers"], matrix.reading
    if side == 0 or (reading.rows, reading.cols) != ((0, 1, 2), (3,)):
        return "a convolution that does not read it as (taps * channels, outputs)"
    if (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) != (NHWC, HWIO, NHWC):
        return "a convolution of images that are not (count, height, width, channels)"
    plain = ("feature_group_count", "batch_group_count"), ("lhs_dilation", "rhs_dilation")
    if any(params[name] != 1 for name in plain[0]) or any({*params[n]} != {1} for n in plain[1]):
        return "a convolution in groups or with dilation"
    if any(n < 0 for pad in params["padding"] for n in pad):
        return f"a convolution of cut images, by the padding {params['padding']}"
    if problem := _unfit(params, x):
        return problem
    return _convolved(params, x, matrix, path)


def _convolved(params: Mapping[str, Any], x: Any, matrix: PackedMatrix, path: str) -> Product:
    static: dict[str, Any] = {
        "kernel": tuple(matrix.reading.shape[:2]),
        "strides": tuple(params["window_strides"]),
        "padding": tuple((before, after) for before, after in params["padding"]),
    }
    run = functools.partial(
        block_sparse_convolution, x, matrix.blocks, matrix.layout, path=path, **static
    )
    geometry = geometry_of(x.shape[1:], **static)
    if geometry.pointwise:
        return Product(run, _call(len(x) * math.prod(geometry.out), x, matrix, path))
    return Product(run, _call(len(x), x, matrix, path, geometry))


def _unfit(params: Mapping[str, Any], x: Any) -> str:
    """Why x cannot be multiplied; "" where it can."""
    asked = params["preferred_element_type"]
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return f"multiplied with {x.dtype}"
    if asked is not None and asked != x.dtype:
        return f"its product of {x.dtype} is asked for as {asked}"
    return "" if math.prod(x.shape) else "multiplied with nothing"
