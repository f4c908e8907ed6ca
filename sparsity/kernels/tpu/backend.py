"""The TPU's backend: Pallas kernels (`kernels`) over runs of blocks, with activations feature-major.

Tiles of a TPU are 128 lanes wide, so x is transposed to (K, M): then a block's rows are sublanes, of which
any multiple of 16 will do, and batch entries are lanes. `convolution` runs convolutions on the same kernels.
"""

import jax
import jax.numpy as jnp

from sparsity.kernels import taps
from sparsity.kernels.blocks import transposed_blocks
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import Layout, transposed
from sparsity.kernels.tpu import budget, convolution
from sparsity.kernels.tpu.budget import TILES, VMEM_LIMIT, WIDE_TILES, fitting, reach
from sparsity.kernels.tpu.product import Tiles, gradient, product
from sparsity.kernels.tpu.sources import MATRIX

DTYPES = ("float32", "bfloat16")
SIDES = (16, 32, 64, 128)


def refusal(layout: Layout, dtype: jnp.dtype) -> str:
    """Why this backend cannot run, in words; "" where it can."""
    itemsize = jnp.dtype(dtype).itemsize
    there = budget.excess(layout.shape, layout.block, layout.capacity, itemsize)
    back = budget.excess(layout.shape[::-1], layout.block[::-1], layout.capacity, itemsize)
    return _unserved(layout, jnp.dtype(dtype)) or there or back


def forward(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    activation: str,
    limit: int = VMEM_LIMIT,
) -> jax.Array:
    """activation(x @ W + bias): x (M, K) -> (M, N). limit: bytes of VMEM, as for the other two."""
    tile = _tile(x, layout, TILES)
    seen, tiles = _feature_major(x, reach(layout, 0), tile, limit)
    y = product(seen, packed, layout, MATRIX, tiles, bias, activation)
    return y[:, : x.shape[0]].T


def dx(dy: jax.Array, packed: jax.Array, layout: Layout, limit: int = VMEM_LIMIT) -> jax.Array:
    """dy @ W.T: dy (M, N) -> (M, K)."""
    turned = transposed_blocks(packed, layout)
    return forward(dy, turned, transposed(layout), None, "none", limit)


def dw(x: jax.Array, dy: jax.Array, layout: Layout, limit: int = VMEM_LIMIT) -> jax.Array:
    """x.T @ dy at live blocks: (capacity, rows, cols), 0 in padding."""
    tile = _tile(x, layout, WIDE_TILES)
    seen, tiles = _feature_major(x, reach(layout, 0), tile, limit)
    given, _ = _feature_major(dy, reach(layout, 1), tile, limit)
    return gradient(seen, given, layout, MATRIX, tiles)


def convolution_refusal(layout: Layout, dtype: jnp.dtype, geometry: Geometry) -> str:
    """Why this backend cannot convolve, in words; "" where it can."""
    return (
        _unserved(layout, jnp.dtype(dtype))
        or taps.refusal(layout, geometry)
        or convolution.excess(layout, jnp.dtype(dtype).itemsize, geometry)
    )


def convolve(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    activation: str,
    geometry: Geometry,
    limit: int = VMEM_LIMIT,
) -> jax.Array:
    """activation(convolution of x with W + bias), images (count, height, width, channels)."""
    return convolution.forward(x, packed, layout, bias, activation, geometry, limit)


def convolve_dx(
    dy: jax.Array, packed: jax.Array, layout: Layout, geometry: Geometry, limit: int = VMEM_LIMIT
) -> jax.Array:
    """The gradient of a convolution's images."""
    return convolution.dx(dy, packed, layout, geometry, limit)


def convolve_dw(
    x: jax.Array, dy: jax.Array, layout: Layout, geometry: Geometry, limit: int = VMEM_LIMIT
) -> jax.Array:
    """The gradient of a convolution's live blocks: (capacity, rows, cols), 0 in padding."""
    return convolution.dw(x, dy, layout, geometry, limit)


def _unserved(layout: Layout, dtype: jnp.dtype) -> str:
    if dtype.name not in DTYPES:
        return f"the TPU's kernels are for {' and '.join(DTYPES)}, not {dtype.name}"
    if not all(side in SIDES for side in layout.block):
        return f"the TPU's kernels are for blocks with sides of {SIDES}, not {layout.block}"
    return ""


def _tile(x: jax.Array, layout: Layout, tiles: tuple[int, ...]) -> int:
    return fitting(layout.shape, layout.block, x.dtype.itemsize, tiles, x.shape[0])


def _feature_major(x: jax.Array, features: int, tile: int, limit: int) -> tuple[jax.Array, Tiles]:
    """x (M, K) as (features, M rounded up to tiles), with zeros."""
    count = max(1, -(-x.shape[0] // tile))
    edges = ((0, count * tile - x.shape[0]), (0, features - x.shape[1]))
    return jnp.pad(x, edges).T, Tiles(tile, count, limit)
