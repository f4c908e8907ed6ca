"""The dense fall-back: the weight is unpacked and XLA multiplies. Right for every shape, dtype and device.

Forward and dX unpack it by the same operations, which XLA joins where they stand in one program: a step
unpacks once.
"""

import jax
import jax.numpy as jnp
from jax import lax

from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import Layout, pack, unpack


def refusal(layout: Layout, dtype: jnp.dtype) -> str:
    """Why this backend cannot run; "" where it can, which is everywhere."""
    return ""


def forward(
    x: jax.Array, packed: jax.Array, layout: Layout, bias: jax.Array | None, activation: str
) -> jax.Array:
    """activation(x @ W + bias): x (M, K) -> (M, N)."""
    y = _wide(x, unpack(packed, layout))
    if bias is not None:
        y = y + bias.astype(y.dtype)
    return ACTIVATIONS[activation](y).astype(x.dtype)


def dx(dy: jax.Array, packed: jax.Array, layout: Layout) -> jax.Array:
    """dy @ W.T: dy (M, N) -> (M, K)."""
    return _wide(dy, unpack(packed, layout).T).astype(dy.dtype)


def dw(x: jax.Array, dy: jax.Array, layout: Layout) -> jax.Array:
    """x.T @ dy at live blocks: (capacity, rows, cols), 0 in padding."""
    return pack(_wide(x.T, dy), layout).astype(x.dtype)


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
    y = _convolved(x, unpack(packed, layout), geometry)
    if bias is not None:
        y = y + bias.astype(y.dtype)
    return ACTIVATIONS[activation](y).astype(x.dtype)


def convolve_dx(dy: jax.Array, packed: jax.Array, layout: Layout, geometry: Geometry) -> jax.Array:
    """The gradient of a convolution's images."""
    wide = jnp.promote_types(dy.dtype, jnp.float32)
    w = unpack(packed, layout).astype(wide)
    images = jax.ShapeDtypeStruct((dy.shape[0], *geometry.image), wide)
    (dx,) = jax.linear_transpose(lambda x: _convolved(x, w, geometry), images)(dy.astype(wide))
    return dx.astype(dy.dtype)


def convolve_dw(x: jax.Array, dy: jax.Array, layout: Layout, geometry: Geometry) -> jax.Array:
    """The gradient of a convolution's live blocks: (capacity, rows, cols), 0 in padding."""
    wide = jnp.promote_types(dy.dtype, jnp.float32)
    weight = jax.ShapeDtypeStruct(layout.shape, wide)
    run = lambda w: _convolved(x.astype(wide), w, geometry)
    (dw,) = jax.linear_transpose(run, weight)(dy.astype(wide))
    return pack(dw, layout).astype(x.dtype)


def _convolved(x: jax.Array, w: jax.Array, geometry: Geometry) -> jax.Array:
    kernel = w.reshape(*geometry.kernel, geometry.image[2], w.shape[1])
    return lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        geometry.padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=jnp.promote_types(x.dtype, jnp.float32),
    )


def _wide(a: jax.Array, b: jax.Array) -> jax.Array:
    """a @ b summed in float32 at least, and left so."""
    return jnp.matmul(a, b, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))
