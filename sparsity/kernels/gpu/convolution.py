"""Convolutions on the GPU's kernels: images are rows, and pixels columns behind each other (`pieces`)."""

import jax
import jax.numpy as jnp

from sparsity.kernels.geometry import Geometry
from sparsity.kernels.gpu.gradient import gradient
from sparsity.kernels.gpu.persistent import Launch
from sparsity.kernels.gpu.pieces import backwards, forwards
from sparsity.kernels.gpu.product import End, product
from sparsity.kernels.gpu.walk import Walk
from sparsity.kernels.layout import Layout
from sparsity.kernels.taps import turned


def forward(
    x: jax.Array, packed: jax.Array, layout: Layout, end: End, geometry: Geometry, launch: Launch
) -> jax.Array:
    """activation(convolution of x with W + bias), images (count, height, width, channels)."""
    walk = Walk(layout, packed, None, forwards(layout, geometry))
    return product(x.reshape(x.shape[0], -1), walk, end, launch)


def dx(
    dy: jax.Array, packed: jax.Array, layout: Layout, geometry: Geometry, launch: Launch
) -> jax.Array:
    """The gradient of a convolution's images."""
    back, order = turned(layout, geometry)
    walk = Walk(back, packed, order, backwards(layout, geometry))
    return product(_whole(dy, layout), walk, End(), launch)


def dw(
    x: jax.Array, dy: jax.Array, layout: Layout, geometry: Geometry, launch: Launch
) -> jax.Array:
    """The gradient of a convolution's live blocks: (capacity, rows, cols), 0 in padding."""
    window = forwards(layout, geometry)
    return gradient(x.reshape(x.shape[0], -1), _whole(dy, layout), layout, window, launch)


def _whole(dy: jax.Array, layout: Layout) -> jax.Array:
    """A gradient of outputs as (images, pixels * outputs), outputs up to whole blocks."""
    beyond = layout.grid[1] * layout.block[1] - dy.shape[-1]
    return jnp.pad(dy, (*[(0, 0)] * 3, (0, beyond))).reshape(dy.shape[0], -1)
