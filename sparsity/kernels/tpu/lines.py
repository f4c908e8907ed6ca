"""Convolutions as products over lines: a window's rows read the same images, whole lines further down.

A line is one row of pixels of all images, so that the next row of the window is a line further down and tiles
begin where kernels want them. The window's columns are features: x is copied once per column (three times for
3 x 3), not once per tap, so that this is no im2col. Between strides along the height lie "phases", which are
features too.

`multiple`, everywhere: pixels of a line are rounded up to it, with zeros.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import Layout
from sparsity.kernels.taps import back
from sparsity.kernels.tpu.sources import Sources


def features(layout: Layout, geometry: Geometry) -> tuple[int, int]:
    """Rows that panels of x, and of dy for dX, have in all: features times lines."""
    (down, along), width = back(geometry), geometry.kernel[1]
    there = geometry.strides[0] * width * geometry.image[2]
    given = along * layout.grid[1] * layout.block[1]
    return there * down, given * down


def flat(x: jax.Array, geometry: Geometry, multiple: int) -> jax.Array:
    """Images as (lines of all, phases * columns of the window * channels), padded with zeros."""
    (high, wide), (height, _) = geometry.strides, grid_of_strides(geometry)
    (top, _), (left, _) = geometry.padding
    across, columns = geometry.out[1], geometry.kernel[1]
    reach = (across - 1) * wide + columns
    edges = ((top, height * high - top - x.shape[1]), (left, max(0, reach - left - x.shape[2])))
    padded = jnp.pad(x, ((0, 0), *edges, (0, 0)))
    seen = [padded[:, :, b : b + (across - 1) * wide + 1 : wide] for b in range(columns)]
    cut = jnp.stack(seen, axis=3).reshape(x.shape[0], height, high, across, columns, -1)
    whole = cut.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], height, across, -1)
    return _lines(whole, multiple)


def forwards(layout: Layout, geometry: Geometry, count: int, multiple: int) -> Sources:
    """Block row (tap, channel block): its channels at the tap's phase and column, the tap's lines down."""
    inside, high = geometry.image[2] // layout.block[0], geometry.strides[0]
    down, along = (a.ravel() for a in np.indices(geometry.kernel))
    seen = down % high * geometry.kernel[1] + along
    feature = seen[:, None] * inside + np.arange(inside)
    shift = np.repeat(down // high, inside)
    return _sources(feature, shift, count * geometry.out[1], multiple)


def spread(
    dy: jax.Array, layout: Layout, geometry: Geometry, multiple: int
) -> tuple[jax.Array, Sources]:
    """A gradient of outputs as pixels read it, (lines, columns * outputs), and which block row reads where.

    Block row (tap, output block) of the turned weight: its first taps, the window's last, read furthest up.
    """
    (height, width), (down, along) = grid_of_strides(geometry), back(geometry)
    outputs, beyond = layout.grid[1], layout.grid[1] * layout.block[1] - dy.shape[-1]
    edges = ((down - 1, height - geometry.out[0]), (0, 0), (0, beyond))
    padded = jnp.pad(dy, ((0, 0), *edges))
    column = lambda b: jnp.pad(padded, ((0, 0), (0, 0), (b, width - b), (0, 0)))[:, :, :width]
    seen = [column(b) for b in reversed(range(along))]
    given = _lines(jnp.concatenate(seen, axis=3), multiple)
    shift, feature = (a.ravel() for a in np.indices((down, along)))
    feature = feature[:, None] * outputs + np.arange(outputs)
    pixels = dy.shape[0] * width
    return given, _sources(feature, np.repeat(shift, outputs), pixels, multiple)


def outputs(dy: jax.Array, layout: Layout, multiple: int) -> jax.Array:
    """A gradient of outputs as (lines, outputs), up to whole blocks."""
    beyond = layout.grid[1] * layout.block[1] - dy.shape[-1]
    return _lines(jnp.pad(dy, (*[(0, 0)] * 3, (0, beyond))), multiple)


def windows(y: jax.Array, count: int, geometry: Geometry) -> jax.Array:
    """Outputs (count, height, width, N) from their lines."""
    (high, wide), features = geometry.out, y.shape[-1]
    y = y.reshape(high, -1, features)[:, : count * wide]
    return y.reshape(high, count, wide, features).swapaxes(0, 1)


def images(found: jax.Array, count: int, geometry: Geometry) -> jax.Array:
    """Images from lines of pixels of (phases * channels), without their padding."""
    (high, wide), (tall, broad) = geometry.strides, grid_of_strides(geometry)
    (top, _), (left, _) = geometry.padding
    height, width, channels = geometry.image
    cut = found.reshape(tall, -1, high, wide, channels)[:, : count * broad]
    cut = cut.reshape(tall, count, broad, high, wide, channels).transpose(1, 0, 3, 2, 4, 5)
    whole = cut.reshape(count, tall * high, broad * wide, channels)
    return whole[:, top : top + height, left : left + width]


def grid_of_strides(geometry: Geometry) -> tuple[int, int]:
    """(height, width) of the padded image in strides, rounded up."""
    sizes = zip(geometry.image, geometry.padding, geometry.strides, strict=False)
    height, width = (-(-(n + sum(pad)) // stride) for n, pad, stride in sizes)
    return height, width


def _lines(x: jax.Array, multiple: int) -> jax.Array:
    """Images (count, height, width, features) as (height * line, features): a row of all images is a line."""
    count, height, width, features = x.shape
    rows = x.swapaxes(0, 1).reshape(height, count * width, features)
    return jnp.pad(rows, ((0, 0), (0, -(count * width) % multiple), (0, 0))).reshape(-1, features)


def _sources(feature: np.ndarray, shift: np.ndarray, pixels: int, multiple: int) -> Sources:
    entries = lambda a: jnp.asarray(a.ravel(), jnp.int32)
    line = -(-pixels // multiple) * multiple
    return Sources(entries(feature), entries(shift), line, int(shift.max()) + 1)
