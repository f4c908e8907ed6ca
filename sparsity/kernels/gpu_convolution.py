"""Convolutions on the GPU's kernels, as products over `lines`."""

import jax

from sparsity.kernels import lines
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.gpu_gradient import gradient
from sparsity.kernels.gpu_product import End, product
from sparsity.kernels.gpu_ring import Launch
from sparsity.kernels.gpu_walk import DEPTH, Walk
from sparsity.kernels.layout import Layout


def forward(
    x: jax.Array, packed: jax.Array, layout: Layout, end: End, geometry: Geometry, launch: Launch
) -> jax.Array:
    """activation(convolution of x with W + bias), images (count, height, width, channels)."""
    sources = lines.forwards(layout, geometry, x.shape[0], DEPTH)
    walk = Walk(layout, packed, None, sources)
    count = geometry.out[0] * sources.line
    y = product(lines.flat(x, geometry, DEPTH), walk, count, end, launch)
    return lines.windows(y, x.shape[0], geometry)


def dx(
    dy: jax.Array, packed: jax.Array, layout: Layout, geometry: Geometry, launch: Launch
) -> jax.Array:
    """The gradient of a convolution's images."""
    back, order = lines.turned(layout, geometry)
    given, sources = lines.spread(dy, layout, geometry, DEPTH)
    count = lines.grid_of_strides(geometry)[0] * sources.line
    found = product(given, Walk(back, packed, order, sources), count, End(), launch)
    return lines.images(found, dy.shape[0], geometry)


def dw(
    x: jax.Array, dy: jax.Array, layout: Layout, geometry: Geometry, launch: Launch
) -> jax.Array:
    """The gradient of a convolution's live blocks: (capacity, rows, cols), 0 in padding."""
    sources = lines.forwards(layout, geometry, x.shape[0], DEPTH)
    given = lines.outputs(dy, layout, DEPTH)
    return gradient(lines.flat(x, geometry, DEPTH), given, layout, sources, launch)
