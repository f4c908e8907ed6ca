"""The GPU's backend: Mosaic kernels for Hopper's wgmma over runs of blocks, batch-major, persistent.

`gpu_product` and `gpu_gradient` hold the kernels, `gpu_ring` how a GPU's threads work through them.
"""

import jax
import jax.numpy as jnp

from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.gpu_budget import DEPTH
from sparsity.kernels.gpu_gradient import HALF, gradient
from sparsity.kernels.gpu_product import columns
from sparsity.kernels.gpu_ring import GROUPS, Launch
from sparsity.kernels.layout import Layout, transposed, transposed_blocks
from sparsity.kernels.runs import from_runs, runs_of, to_runs

DTYPES = ("bfloat16", "float16")
SIDES = (16, 32, 64, 128)
HOPPER = Launch()
# Rows of x that a program multiplies at once; few rows take half as many.
TILE = 256


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
    if bias is None or _loads_bias(layout):
        return _product(x, packed, layout, bias, activation, launch)
    y = _product(x, packed, layout, None, "none", launch)
    return ACTIVATIONS[activation](y + bias.astype(jnp.float32)).astype(x.dtype)


def dx(dy: jax.Array, packed: jax.Array, layout: Layout, launch: Launch = HOPPER) -> jax.Array:
    """dy @ W.T: dy (M, N) -> (M, K)."""
    turned = transposed_blocks(packed, layout)
    return _product(dy, turned, transposed(layout), None, "none", launch)


def dw(x: jax.Array, dy: jax.Array, layout: Layout, launch: Launch = HOPPER) -> jax.Array:
    """x.T @ dy at live blocks: (capacity, rows, cols), 0 in padding."""
    runs = runs_of(layout, GROUPS * HALF // layout.block[0])
    x, dy = _whole(x, layout, 0, DEPTH), _whole(dy, layout, 1, DEPTH)
    return from_runs(gradient(runs, x, dy, layout.block, launch), runs, layout)


def _product(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    activation: str,
    launch: Launch,
) -> jax.Array:
    runs = runs_of(layout, max(1, DEPTH // layout.block[0]))
    tile = TILE if x.shape[0] > TILE // 2 else TILE // 2
    seen = _whole(x, layout, 0, tile)
    if bias is not None:
        beyond = layout.grid[1] * layout.block[1] - bias.size
        bias = jnp.pad(bias.astype(jnp.float32), (0, beyond))
    weights = to_runs(packed, runs)
    y = columns(runs, seen, weights, bias, layout, tile, activation, launch)
    return y[: x.shape[0], : layout.shape[1]]


def _whole(x: jax.Array, layout: Layout, axis: int, tile: int) -> jax.Array:
    """x (M, K) with zeros up to whole tiles of rows and whole blocks."""
    rows, features = -(-x.shape[0] // tile) * tile, layout.grid[axis] * layout.block[axis]
    return jnp.pad(x, ((0, max(rows, tile) - x.shape[0]), (0, features - x.shape[1])))


def _loads_bias(layout: Layout) -> bool:
    """Whether the kernel can add the bias; elsewhere XLA adds it to rounded sums.

    Mosaic loads whole lines of 128 bytes as accumulators lie, from jax 0.12 on.
    """
    return jax.__version_info__ >= (0, 12) and layout.block[1] * 4 >= 128


def _other_card() -> str:
    """Why the GPU of this process, if it has one, has no kernel."""
    if jax.default_backend() != "gpu":
        return ""
    found = getattr(jax.local_devices()[0], "compute_capability", "")
    if found == "9.0":
        return ""
    return (
        f"the GPU's kernels are for compute capability 9.0 (Hopper); this one has {found or 'none'}"
    )
