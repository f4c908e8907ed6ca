"""Convolutions with block-sparse weights, as implicit products: no im2col is made by a kernel of ours.

The weight HWIO (height, width, channels, outputs) is read as the matrix (height * width * channels, outputs)
and cut into blocks as any other. Where the block's rows divide the channels, block row i is (tap, channel
block); elsewhere, and where a platform has no such kernel, the convolution runs dense:
`backends.backend_of(platform, layout, dtype, geometry)` says why.
"""

import jax
from jax import lax

from sparsity.kernels.activations import check_activation
from sparsity.kernels.geometry import Pads, geometry_of
from sparsity.kernels.layout import Layout
from sparsity.kernels.ops import block_sparse_matmul, weights_of
from sparsity.kernels.product import product


def block_sparse_convolution(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    *,
    kernel: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    padding: str | Pads = "SAME",
    bias: jax.Array | None = None,
    activation: str | None = None,
    scale: jax.Array | None = None,
    path: str = "auto",
) -> jax.Array:
    """activation(convolution of x with scale * W + bias).

    x:      (..., height, width, channels).
    packed: (capacity, rows, cols), the live blocks of W in the layout's order; the layout's shape is
            (kernel[0] * kernel[1] * channels, outputs).
    kernel, strides: along height and width. padding: "SAME", "VALID" or zeros before and after.
    bias, activation, scale, path as for `block_sparse_matmul`, which a window of 1 x 1 without padding is.
    The result is (..., height, width, outputs). Raises ValueError for what does not fit.
    """
    geometry = geometry_of(x.shape[-3:], kernel, strides, padding)
    if geometry.rows != layout.shape[0]:
        raise ValueError(
            f"a window of {kernel} over {x.shape[-1]} channels has {geometry.rows} weights per output, "
            f"the layout {layout.shape[0]}"
        )
    if geometry.pointwise:
        seen = _seen(x, strides)
        return block_sparse_matmul(
            seen, packed, layout, bias=bias, activation=activation, scale=scale, path=path
        )
    weights = weights_of(x, packed, layout, bias, scale)
    images = x.reshape(-1, *geometry.image)
    y = product(images, weights, bias, layout, check_activation(activation), geometry, path)
    return y.reshape(*x.shape[:-3], *geometry.out, layout.shape[1])


def _seen(x: jax.Array, strides: tuple[int, int]) -> jax.Array:
    """The pixels that windows of 1 x 1 read."""
    if strides == (1, 1):
        return x
    # Without the barrier XLA for GPUs (jaxlib 0.11.2) reads a dense product's factor through the slice, and
    # ends the process: "Check failed: subdim_size_accumulator == dim_size".
    return lax.optimization_barrier(x[..., :: strides[0], :: strides[1], :])
