"""Convolutions on the GPU's kernels, as products over `lines`."""

import jax
import jax.numpy as jnp

from sparsity.kernels import lines
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.gpu_budget import DEPTH
from sparsity.kernels.gpu_gradient import gradient
from sparsity.kernels.gpu_product import End, padded_rows, product
from sparsity.kernels.gpu_ring import Launch
from sparsity.kernels.layout import Layout
from sparsity.kernels.sources import Sources


def forward(
    x: jax.Array, packed: jax.Array, layout: Layout, end: End, geometry: Geometry, launch: Launch
) -> jax.Array:
    """activation(convolution of x with W + bias), images (count, height, width, channels)."""
    sources = lines.forwards(layout, geometry, x.shape[0], DEPTH)
    count = geometry.out[0] * sources.line
    seen = _reaching(lines.flat(x, geometry, DEPTH), count, sources)
    y = product(seen, packed, layout, sources, count, end, launch)
    return lines.windows(y, x.shape[0], geometry)


def dx(
    dy: jax.Array, packed: jax.Array, layout: Layout, geometry: Geometry, launch: Launch
) -> jax.Array:
    """The gradient of a convolution's images."""
    back, order = lines.turned(layout, geometry)
    given, sources = lines.spread(dy, layout, geometry, DEPTH)
    count = lines.grid_of_strides(geometry)[0] * sources.line
    blocks = packed[order].swapaxes(1, 2)
    given = _reaching(given, count, sources)
    found = product(given, blocks, back, sources, count, End(), launch)
    return lines.images(found, dy.shape[0], geometry)


def dw(
    x: jax.Array, dy: jax.Array, layout: Layout, geometry: Geometry, launch: Launch
) -> jax.Array:
    """The gradient of a convolution's live blocks: (capacity, rows, cols), 0 in padding."""
    sources = lines.forwards(layout, geometry, x.shape[0], DEPTH)
    given = lines.outputs(dy, layout, DEPTH)
    return gradient(lines.flat(x, geometry, DEPTH), given, layout, sources, launch)


def _reaching(x: jax.Array, count: int, sources: Sources) -> jax.Array:
    """x with zeros as far as the last tile of `count` results reads."""
    rows = padded_rows(count) + (sources.lines - 1) * sources.line
    return jnp.pad(x, ((0, max(0, rows - x.shape[0])), (0, 0)))
