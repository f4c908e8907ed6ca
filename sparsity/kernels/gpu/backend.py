"""The GPU's backend: Mosaic kernels for Hopper's wgmma over runs of blocks, batch-major, persistent.

`product` with `tiles`, `panel` with `bands` and `gradient` with `runs` hold the kernels, `walk` the tables that they
read, `persistent` how a GPU's threads work through them; `convolution` runs convolutions on the same kernels,
with `pieces` to say which pixels they read.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sparsity.kernels import taps
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.gpu import convolution
from sparsity.kernels.gpu.gradient import gradient
from sparsity.kernels.gpu.persistent import Launch
from sparsity.kernels.gpu.product import End, product
from sparsity.kernels.gpu.walk import Walk
from sparsity.kernels.layout import Layout, transposed

DTYPES = ("bfloat16", "float16")
SIDES = (16, 32, 64, 128)
HOPPER = Launch()


def refusal(layout: Layout, dtype: jnp.dtype) -> str:
    """Why this backend cannot run, in words; "" where it can."""
    if jnp.dtype(dtype).name not in DTYPES:
        return f"the GPU's kernels are for {' and '.join(DTYPES)}, not {jnp.dtype(dtype).name}"
    if not all(side in SIDES for side in layout.block):
        return f"the GPU's kernels are for blocks with sides of {SIDES}, not {layout.block}"
    return _other_card()


def forward(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    activation: str,
    launch: Launch = HOPPER,
) -> jax.Array:
    """activation(x @ W + bias): x (M, K) -> (M, N)."""
    return product(x, Walk(layout, packed, None), End(bias, activation), launch)


def dx(dy: jax.Array, packed: jax.Array, layout: Layout, launch: Launch = HOPPER) -> jax.Array:
    """dy @ W.T: dy (M, N) -> (M, K)."""
    return product(dy, Walk(transposed(layout), packed, layout.by_row), End(), launch)


def dw(x: jax.Array, dy: jax.Array, layout: Layout, launch: Launch = HOPPER) -> jax.Array:
    """x.T @ dy at live blocks: (capacity, rows, cols), 0 in padding."""
    return gradient(x, dy, layout, None, launch)


def convolution_refusal(layout: Layout, dtype: jnp.dtype, geometry: Geometry) -> str:
    """Why this backend cannot convolve, in words; "" where it can."""
    return refusal(layout, dtype) or taps.refusal(layout, geometry)


def convolve(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    activation: str,
    geometry: Geometry,
    launch: Launch = HOPPER,
) -> jax.Array:
    """activation(convolution of x with W + bias), images (count, height, width, channels)."""
    return convolution.forward(x, packed, layout, End(bias, activation), geometry, launch)


def convolve_dx(
    dy: jax.Array, packed: jax.Array, layout: Layout, geometry: Geometry, launch: Launch = HOPPER
) -> jax.Array:
    """The gradient of a convolution's images."""
    return convolution.dx(dy, packed, layout, geometry, launch)


def convolve_dw(
    x: jax.Array, dy: jax.Array, layout: Layout, geometry: Geometry, launch: Launch = HOPPER
) -> jax.Array:
    """The gradient of a convolution's live blocks: (capacity, rows, cols), 0 in padding."""
    return convolution.dw(x, dy, layout, geometry, launch)


def _other_card() -> str:
    """Why the GPU of this process, if it has one, has no kernel."""
    if jax.default_backend() != "gpu":
        return ""
    device: Any = jax.local_devices()[0]
    found = getattr(device, "compute_capability", "")
    if found == "9.0":
        return ""
    return (
        f"the GPU's kernels are for compute capability 9.0 (Hopper); this one has {found or 'none'}"
    )
