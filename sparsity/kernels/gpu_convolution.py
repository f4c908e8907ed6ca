"""Convolutions on the GPU's product: images as lines of pixels, which a window's rows read further down.

A line is one row of pixels of all images, so that the next row of the window is a whole line further down and
tiles begin where the copies of a GPU want them. The window's columns are features: x is copied once per column
(three times for 3 x 3), not once per tap, so that this is no im2col. Between strides along the height lie
"phases", which are features too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparsity.kernels.geometry import Geometry
from sparsity.kernels.gpu_budget import DEPTH
from sparsity.kernels.gpu_gradient import gradient
from sparsity.kernels.gpu_product import End, padded_rows, product
from sparsity.kernels.gpu_ring import Launch
from sparsity.kernels.gpu_sources import Sources
from sparsity.kernels.layout import Layout, from_mask


class Taps(NamedTuple):
    """Static numbers of each tap of the window, in the weight's order: its row and column there."""

    down: np.ndarray
    along: np.ndarray


def refusal(layout: Layout, geometry: Geometry) -> str:
    """Why there is no such convolution, in words; "" where there is."""
    rows, channels = layout.block[0], geometry.image[2]
    if channels % rows:
        return f"blocks of {rows} rows do not divide the {channels} channels"
    return ""


def forward(
    x: jax.Array, packed: jax.Array, layout: Layout, end: End, geometry: Geometry, launch: Launch
) -> jax.Array:
    """activation(convolution of x with W + bias), images (count, height, width, channels)."""
    (high, wide), sources = geometry.out, forwards(layout, geometry, x.shape[0])
    seen = flat(x, geometry)
    count = high * sources.line
    seen = _reaching(seen, padded_rows(count) + seen.shape[0] - count)
    y = product(seen, packed, layout, sources, count, end, launch)
    y = y.reshape(high, sources.line, -1)[:, : x.shape[0] * wide]
    return y.reshape(high, x.shape[0], wide, -1).swapaxes(0, 1)


def dx(
    dy: jax.Array, packed: jax.Array, layout: Layout, geometry: Geometry, launch: Launch
) -> jax.Array:
    """The gradient of a convolution's images: each pixel takes from the outputs whose window sees it."""
    back, order = turned(layout, geometry)
    given, sources = spread(dy, layout, geometry)
    count = _grid(geometry)[0] * sources.line
    given = _reaching(given, padded_rows(count) + given.shape[0] - count)
    blocks = packed[order].swapaxes(1, 2)
    found = product(given, blocks, back, sources, count, End(), launch)
    return _images(found, dy.shape[0], geometry)


def dw(
    x: jax.Array, dy: jax.Array, layout: Layout, geometry: Geometry, launch: Launch
) -> jax.Array:
    """The gradient of a convolution's live blocks: (capacity, rows, cols), 0 in padding."""
    beyond = layout.grid[1] * layout.block[1] - dy.shape[-1]
    given = _lines(jnp.pad(dy, (*[(0, 0)] * 3, (0, beyond))))
    sources = forwards(layout, geometry, x.shape[0])
    return gradient(flat(x, geometry), given, layout, sources, launch)


def flat(x: jax.Array, geometry: Geometry) -> jax.Array:
    """Images as (lines of all, phases * columns of the window * channels), padded with zeros."""
    (high, wide), (height, _) = geometry.strides, _grid(geometry)
    (top, _), (left, _) = geometry.padding
    across, columns = geometry.out[1], geometry.kernel[1]
    reach = (across - 1) * wide + columns
    edges = ((top, height * high - top - x.shape[1]), (left, max(0, reach - left - x.shape[2])))
    padded = jnp.pad(x, ((0, 0), *edges, (0, 0)))
    seen = [padded[:, :, b : b + (across - 1) * wide + 1 : wide] for b in range(columns)]
    cut = jnp.stack(seen, axis=3).reshape(x.shape[0], height, high, across, columns, -1)
    return _lines(cut.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], height, across, -1))


def forwards(layout: Layout, geometry: Geometry, count: int) -> Sources:
    """Block row (tap, channel block): its channels at the tap's phase and column, the tap's lines down."""
    inside, high = geometry.image[2] // layout.block[0], geometry.strides[0]
    taps = _taps(geometry)
    seen = taps.down % high * geometry.kernel[1] + taps.along
    feature = seen[:, None] * inside + np.arange(inside)
    return _sources(feature, np.repeat(taps.down // high, inside), count * geometry.out[1])


def spread(dy: jax.Array, layout: Layout, geometry: Geometry) -> tuple[jax.Array, Sources]:
    """A gradient of outputs as pixels read it, (lines, columns * outputs), and which block row reads where.

    Block row (tap, output block) of the turned weight: a tap's gradient lies as many lines further up as its
    input lies further down.
    """
    (high, wide), (height, width), taps = geometry.strides, _grid(geometry), _taps(geometry)
    up, columns = int(taps.down.max()) // high, int(taps.along.max()) // wide + 1
    outputs, beyond = layout.grid[1], layout.grid[1] * layout.block[1] - dy.shape[-1]
    edges = ((up, height - geometry.out[0]), (0, 0), (0, beyond))
    padded = jnp.pad(dy, ((0, 0), *edges))
    column = lambda b: jnp.pad(padded, ((0, 0), (0, 0), (b, width - b), (0, 0)))[:, :, :width]
    given = _lines(jnp.concatenate([column(b) for b in range(columns)], axis=3))
    feature = (taps.along // wide)[:, None] * outputs + np.arange(outputs)
    shift = np.repeat(up - taps.down // high, outputs)
    return given, _sources(feature, shift, dy.shape[0] * width)


def turned(layout: Layout, geometry: Geometry) -> tuple[Layout, jax.Array]:
    """The layout with rows (tap, output block) and columns (phase, channel block), and its blocks' places."""
    (rows, cols), (high, wide), taps = layout.block, geometry.strides, _taps(geometry)
    inside = geometry.image[2] // rows
    grid = (len(taps.down) * layout.grid[1], high * wide * inside)
    tap = layout.rows // inside
    row = jnp.where(layout.live, tap * layout.grid[1] + layout.cols, grid[0])
    phase = jnp.asarray(taps.down % high * wide + taps.along % wide)
    place = jnp.arange(layout.capacity, dtype=jnp.int32)
    whose = jnp.full(grid, -1, jnp.int32)
    whose = whose.at[row, phase[tap] * inside + layout.rows % inside].set(place, mode="drop")
    shape = (grid[0] * cols, grid[1] * rows)
    back = from_mask(whose >= 0, shape, (cols, rows), capacity=layout.capacity)
    return back, whose[back.rows, back.cols]


def _images(found: jax.Array, count: int, geometry: Geometry) -> jax.Array:
    """Images from lines of pixels of (phases * channels), without their padding."""
    (high, wide), (tall, broad) = geometry.strides, _grid(geometry)
    (top, _), (left, _) = geometry.padding
    height, width, channels = geometry.image
    cut = found.reshape(tall, -1, high, wide, channels)[:, : count * broad]
    cut = cut.reshape(tall, count, broad, high, wide, channels).transpose(1, 0, 3, 2, 4, 5)
    whole = cut.reshape(count, tall * high, broad * wide, channels)
    return whole[:, top : top + height, left : left + width]


def _grid(geometry: Geometry) -> tuple[int, int]:
    """(height, width) of the padded image in strides, rounded up."""
    sizes = zip(geometry.image, geometry.padding, geometry.strides, strict=False)
    height, width = (-(-(n + sum(pad)) // stride) for n, pad, stride in sizes)
    return height, width


def _taps(geometry: Geometry) -> Taps:
    down, along = np.indices(geometry.kernel)
    return Taps(down.ravel(), along.ravel())


def _lines(x: jax.Array) -> jax.Array:
    """Images (count, height, width, features) as (height * line, features): a row of all images is a line."""
    count, height, width, features = x.shape
    rows = x.swapaxes(0, 1).reshape(height, count * width, features)
    return jnp.pad(rows, ((0, 0), (0, -(count * width) % DEPTH), (0, 0))).reshape(-1, features)


def _sources(feature: np.ndarray, shift: np.ndarray, pixels: int) -> Sources:
    entries = lambda a: jnp.asarray(a.ravel(), jnp.int32)
    return Sources(entries(feature), entries(shift), -(-pixels // DEPTH) * DEPTH)


def _reaching(x: jax.Array, rows: int) -> jax.Array:
    """x with zeros up to so many rows."""
    return jnp.pad(x, ((0, rows - x.shape[0]), (0, 0)))
