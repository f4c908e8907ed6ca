"""The dense fall-back: the weight is unpacked and XLA multiplies. Right for every shape, dtype and device.

It multiplies in the operands' dtype, as a dense layer does: then a device takes the same kernel for it. All that
we have sum in float32 there, whatever they give. Forward and dX unpack the weight by the same operations, which
XLA joins where they stand in one program: a step unpacks once.
"""

import jax
import jax.numpy as jnp
from jax import lax

from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.blocks import pack, unpack
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import Layout
from sparsity.kernels.storage import spread_blocks


def refusal(layout: Layout, dtype: jnp.dtype) -> str:
    """Why this backend cannot run; "" where it can, which is everywhere."""
    return ""


def forward(
    x: jax.Array, packed: jax.Array, layout: Layout, bias: jax.Array | None, activation: str
) -> jax.Array:
    """activation(x @ W + bias): x (M, K) -> (M, N)."""
    return _ended(x @ _whole(packed, layout), bias, activation)


def dx(dy: jax.Array, packed: jax.Array, layout: Layout) -> jax.Array:
    """dy @ W.T: dy (M, N) -> (M, K)."""
    return dy @ _whole(packed, layout).T


def dw(x: jax.Array, dy: jax.Array, layout: Layout) -> jax.Array:
    """x.T @ dy at live blocks: (capacity, rows, cols), 0 in padding."""
    return pack(x.T @ dy, layout)


def convolution_refusal(layout: Layout, dtype: jnp.dtype, geometry: Geometry) -> str:
    """Why this backend cannot convolve; "" where it can, which is everywhere."""
    return ""


def convolve(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    activation: str,
    geometry: Geometry,
) -> jax.Array:
    """activation(convolution of x with W + bias), images (count, height, width, channels)."""
    return _ended(_convolved(x, _whole(packed, layout), geometry), bias, activation)


def convolve_dx(dy: jax.Array, packed: jax.Array, layout: Layout, geometry: Geometry) -> jax.Array:
    """The gradient of a convolution's images."""
    w = _whole(packed, layout)
    images = jax.ShapeDtypeStruct((dy.shape[0], *geometry.image), dy.dtype)
    (dx,) = jax.linear_transpose(lambda x: _convolved(x, w, geometry), images)(dy)
    return dx


def convolve_dw(x: jax.Array, dy: jax.Array, layout: Layout, geometry: Geometry) -> jax.Array:
    """The gradient of a convolution's live blocks: (capacity, rows, cols), 0 in padding."""
    weight = jax.ShapeDtypeStruct(layout.shape, dy.dtype)
    (dw,) = jax.linear_transpose(lambda w: _convolved(x, w, geometry), weight)(dy)
    return pack(dw, layout)


def _whole(packed: jax.Array, layout: Layout) -> jax.Array:
    """W, by a gather for halves: a CPU scatters each entry of them by itself, an accelerator in one pass more."""
    halves = packed.dtype.itemsize == 2
    return spread_blocks(packed, layout) if halves else unpack(packed, layout)


def _convolved(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    kernel = w.reshape(*geometry.kernel, geometry.image[2], w.shape[1])
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, geometry.strides, geometry.padding, dimension_numbers=numbers
    )


def _ended(y: jax.Array, bias: jax.Array | None, activation: str) -> jax.Array:
    return ACTIVATIONS[activation](y if bias is None else y + bias.astype(y.dtype))
