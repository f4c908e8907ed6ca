"""Convolutions on the TPU's kernels, as products over `lines`: a panel of x per line that a window reads."""

import jax

from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import Layout
from sparsity.kernels.taps import turned
from sparsity.kernels.tpu import budget, lines
from sparsity.kernels.tpu.budget import LANES, TILES, WIDE_TILES
from sparsity.kernels.tpu.product import Tiles, gradient, product
from sparsity.kernels.tpu.sources import Sources


def excess(layout: Layout, itemsize: int, geometry: Geometry) -> str:
    """What does not fit, in words; "" where all does."""
    there, back = lines.features(layout, geometry)
    n, block = layout.shape[1], layout.block
    inputs = geometry.strides[0] * geometry.strides[1] * geometry.image[2]
    return budget.excess((there, n), block, layout.capacity, itemsize) or budget.excess(
        (back, inputs), block[::-1], layout.capacity, itemsize
    )


def forward(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    activation: str,
    geometry: Geometry,
    limit: int,
) -> jax.Array:
    """activation(convolution of x with W + bias), images (count, height, width, channels)."""
    pixels, (features, _) = x.shape[0] * geometry.out[1], lines.features(layout, geometry)
    tile = tile_of(features, layout.block, x.dtype.itemsize, TILES, pixels)
    sources = lines.forwards(layout, geometry, x.shape[0], tile)
    seen = lines.flat(x, geometry, tile).T
    tiles = _tiles(tile, geometry.out[0], sources, limit)
    y = product(seen, packed, layout, sources, tiles, bias, activation)
    return lines.windows(y.T, x.shape[0], geometry)


def dx(
    dy: jax.Array, packed: jax.Array, layout: Layout, geometry: Geometry, limit: int
) -> jax.Array:
    """The gradient of a convolution's images."""
    height, width = lines.grid_of_strides(geometry)
    _, features = lines.features(layout, geometry)
    tile = tile_of(features, layout.block[::-1], dy.dtype.itemsize, TILES, dy.shape[0] * width)
    back, order = turned(layout, geometry)
    given, sources = lines.spread(dy, layout, geometry, tile)
    tiles = _tiles(tile, height, sources, limit)
    found = product(given.T, packed[order].swapaxes(1, 2), back, sources, tiles, None, "none")
    return lines.images(found.T, dy.shape[0], geometry)


def dw(x: jax.Array, dy: jax.Array, layout: Layout, geometry: Geometry, limit: int) -> jax.Array:
    """The gradient of a convolution's live blocks: (capacity, rows, cols), 0 in padding."""
    pixels, (features, _) = x.shape[0] * geometry.out[1], lines.features(layout, geometry)
    tile = tile_of(features, layout.block, x.dtype.itemsize, WIDE_TILES, pixels)
    sources = lines.forwards(layout, geometry, x.shape[0], tile)
    seen, given = lines.flat(x, geometry, tile).T, lines.outputs(dy, layout, tile).T
    return gradient(seen, given, layout, sources, _tiles(tile, geometry.out[0], sources, limit))


def tile_of(
    features: int, block: tuple[int, int], itemsize: int, tiles: tuple[int, ...], pixels: int
) -> int:
    """The widest tile that fits and rounds a line of pixels up by an eighth at most."""
    near = tuple(t for t in tiles if -(-pixels // t) * t * 8 <= pixels * 9) or (LANES,)
    return budget.fitting((features, block[1]), block, itemsize, near, pixels)


def _tiles(tile: int, height: int, sources: Sources, limit: int) -> Tiles:
    return Tiles(tile, height * sources.line // tile, limit)
