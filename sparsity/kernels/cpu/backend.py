"""The CPU's backend: the kernel of cc/block_sparse.cc, batch-major, on the threads that XLA has.

x is (M, K) and y is (M, N), as a dense layer has them: the kernel packs x itself, which measures better than
feature-major activations between layers. Columns may hold any number of live blocks.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.cpu import native
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import Layout
from sparsity.kernels.manual import vary_like, varying

DTYPES = ("float32", "bfloat16")


def refusal(layout: Layout, dtype: jnp.dtype) -> str:
    """Why this backend cannot run, in words; "" where it can."""
    if jnp.dtype(dtype).name not in DTYPES:
        return f"the CPU's kernel is for {' and '.join(DTYPES)}, not {jnp.dtype(dtype).name}"
    return native.missing()


def forward(
    x: jax.Array, packed: jax.Array, layout: Layout, bias: jax.Array | None, activation: str
) -> jax.Array:
    """activation(x @ W + bias): x (M, K) -> (M, N)."""
    geometry = _pixel(layout)
    return convolve(_images(x), packed, layout, bias, activation, geometry)[:, 0, 0, :]


def dx(dy: jax.Array, packed: jax.Array, layout: Layout) -> jax.Array:
    """dy @ W.T: dy (M, N) -> (M, K)."""
    return convolve_dx(_images(dy), packed, layout, _pixel(layout))[:, 0, 0, :]


def dw(x: jax.Array, dy: jax.Array, layout: Layout) -> jax.Array:
    """x.T @ dy at live blocks: (capacity, rows, cols), 0 in padding."""
    return convolve_dw(_images(x), _images(dy), layout, _pixel(layout))


def convolution_refusal(layout: Layout, dtype: jnp.dtype, geometry: Geometry) -> str:
    """Why this backend cannot convolve, in words; "" where it can."""
    channels, rows = geometry.image[2], layout.block[0]
    if channels % rows:
        return (
            f"blocks of {rows} rows do not divide the {channels} channels of a tap, so that a block's "
            "gradient would belong to several pixels"
        )
    return refusal(layout, dtype)


def convolve(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    activation: str,
    geometry: Geometry,
) -> jax.Array:
    """activation(convolution of x with W + bias), images (count, height, width, channels)."""
    y = _call(
        "block_sparse_product",
        (x.shape[0], *geometry.out, layout.shape[1]),
        x,
        packed,
        layout.col_starts,
        layout.rows,
        layout.by_row,
        jnp.zeros(1, x.dtype) if bias is None else bias.astype(x.dtype),
        geometry=_numbers(geometry),
        backwards=False,
        has_bias=bias is not None,
        relu=activation == "relu",
    )
    # XLA's tanh is vectorised, and fused with what follows.
    return ACTIVATIONS[activation](y) if activation == "gelu" else y


def convolve_dx(dy: jax.Array, packed: jax.Array, layout: Layout, geometry: Geometry) -> jax.Array:
    """The gradient of a convolution's images."""
    return _call(
        "block_sparse_product",
        (dy.shape[0], *geometry.image),
        dy,
        packed,
        layout.row_starts,
        layout.cols,
        layout.by_row,
        jnp.zeros(1, dy.dtype),
        geometry=_numbers(geometry),
        backwards=True,
        has_bias=False,
        relu=False,
    )


def convolve_dw(x: jax.Array, dy: jax.Array, layout: Layout, geometry: Geometry) -> jax.Array:
    """The gradient of a convolution's live blocks: (capacity, rows, cols), 0 in padding."""
    return _call(
        "block_sparse_gradient",
        (layout.capacity, *layout.block),
        x,
        dy,
        layout.col_starts,
        layout.rows,
        geometry=_numbers(geometry),
    )


def _call(target: str, shape: tuple[int, ...], x: jax.Array, *args: Any, **static: Any) -> Any:
    """A result of x's dtype. An operand that vmap shares keeps an axis of 1: the kernel walks the batch."""
    out = jax.ShapeDtypeStruct(shape, x.dtype)
    call = jax.ffi.ffi_call(target, out, vmap_method="expand_dims")
    return vary_like(call(x, *args, **static), varying(x))


def _images(x: jax.Array) -> jax.Array:
    """The rows of a matrix as images of one pixel."""
    return x[:, None, None, :]


def _pixel(layout: Layout) -> Geometry:
    return Geometry((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1, layout.shape[0]))


def _numbers(geometry: Geometry) -> np.ndarray:
    """What the kernel asks for: window, strides, padding before."""
    (top, _), (left, _) = geometry.padding
    return np.array([*geometry.kernel, *geometry.strides, top, left], np.int64)
