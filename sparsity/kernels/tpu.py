"""The TPU's backend: Pallas kernels (`tpu_kernels`) over runs of blocks, with activations feature-major.

Tiles of a TPU are 128 lanes wide, so x is transposed to (K, M): then a block's rows are sublanes, of which
any multiple of 16 will do, and batch entries are lanes.
"""

import jax
import jax.numpy as jnp

from sparsity.kernels import tpu_budget
from sparsity.kernels.layout import Layout, transposed, transposed_blocks
from sparsity.kernels.runs import from_runs, runs_of, to_runs
from sparsity.kernels.tpu_budget import TILES, VMEM_LIMIT, WIDE_TILES, deep, fitting, reach
from sparsity.kernels.tpu_kernels import columns, gradient

DTYPES = ("float32", "bfloat16")
SIDES = (16, 32, 64, 128)


def refusal(layout: Layout, dtype: jnp.dtype) -> str:
    """Why this backend cannot run, in words; "" where it can."""
    dtype = jnp.dtype(dtype)
    if dtype.name not in DTYPES:
        return f"the TPU's kernels are for {' and '.join(DTYPES)}, not {dtype.name}"
    if not all(side in SIDES for side in layout.block):
        return f"the TPU's kernels are for blocks with sides of {SIDES}, not {layout.block}"
    there = tpu_budget.excess(layout.shape, layout.block, layout.capacity, dtype.itemsize)
    back = tpu_budget.excess(
        layout.shape[::-1], layout.block[::-1], layout.capacity, dtype.itemsize
    )
    return there or back


def forward(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    activation: str,
    limit: int = VMEM_LIMIT,
) -> jax.Array:
    """activation(x @ W + bias): x (M, K) -> (M, N). limit: bytes of VMEM, as for the other two."""
    return _product(x, packed, layout, bias, activation, limit)


def dx(dy: jax.Array, packed: jax.Array, layout: Layout, limit: int = VMEM_LIMIT) -> jax.Array:
    """dy @ W.T: dy (M, N) -> (M, K)."""
    turned = transposed_blocks(packed, layout)
    return _product(dy, turned, transposed(layout), None, "none", limit)


def dw(x: jax.Array, dy: jax.Array, layout: Layout, limit: int = VMEM_LIMIT) -> jax.Array:
    """x.T @ dy at live blocks: (capacity, rows, cols), 0 in padding."""
    runs = runs_of(layout, deep(layout.block))
    tile = fitting(layout.shape, layout.block, x.dtype.itemsize, WIDE_TILES, x.shape[0])
    xs = _feature_major(x, reach(layout, 0), tile)
    dys = _feature_major(dy, reach(layout, 1), tile)
    partial = gradient(runs, xs, dys, layout.block, tile, limit)
    held = jnp.sum(partial, 0).astype(x.dtype).swapaxes(1, 2)
    return from_runs(held, runs, layout)


def _product(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    activation: str,
    limit: int,
) -> jax.Array:
    runs = runs_of(layout, deep(layout.block))
    tile = fitting(layout.shape, layout.block, x.dtype.itemsize, TILES, x.shape[0])
    xs = _feature_major(x, reach(layout, 0), tile)
    bias = jnp.zeros(layout.shape[1], jnp.float32) if bias is None else bias.astype(jnp.float32)
    column = jnp.pad(bias, (0, reach(layout, 1) - bias.size))[:, None]
    weights = to_runs(packed, runs).swapaxes(1, 2)
    y = columns(runs, xs, weights, column, layout.block, tile, activation, limit)
    return y[: layout.shape[1], : x.shape[0]].T


def _feature_major(x: jax.Array, features: int, tile: int) -> jax.Array:
    """x (M, K) as (features, M rounded up to tiles), with zeros."""
    rows = max(1, -(-x.shape[0] // tile)) * tile
    return jnp.pad(x, ((0, rows - x.shape[0]), (0, features - x.shape[1]))).T
