"""Dense times sparse on Hopper: a tile of y at a time, over the runs of its column.

A step is 64 weights deep whatever the block: as many tiles of x as the run has blocks, and one tile of weights.
A block of 128 is two steps.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels import gpu_budget, gpu_ring
from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.gpu_budget import DEPTH
from sparsity.kernels.gpu_ring import GROUPS, Launch, Ring, store, swizzled
from sparsity.kernels.layout import Layout
from sparsity.kernels.runs import Runs


def columns(
    runs: Runs,
    x: jax.Array,
    weights: jax.Array,
    bias: jax.Array | None,
    layout: Layout,
    tile: int,
    activation: str,
    launch: Launch,
) -> jax.Array:
    """activation(x @ W + bias): x (M, R * rows), weights the runs one below the other, bias (C * cols,).

    y is (M, C * cols), with M in tiles.
    """
    (rows, cols), across = layout.block, layout.grid[1]
    size, deep = runs.rows.shape[1], min(rows, DEPTH)
    parts, half = rows // deep, tile // GROUPS
    stages = gpu_budget.of_product(tile, layout.block, launch.stages).stages

    def block_sparse_product(firsts, counts, places, offsets, x, w, y, xs, ws, ys, full, free):
        ring = Ring(stages, full, free)

        def copy(item, step):
            m, c = lax.div(item, across), lax.rem(item, across)

            def one(i, step):
                stage, arrived = ring.claim(step)
                run, part = firsts[c] + lax.div(i, parts), lax.rem(i, parts)
                for g in range(size):
                    seen = pl.ds(places[run * size + g] * rows + part * deep, deep)
                    for group in range(GROUPS):
                        batch = pl.ds((m * GROUPS + group) * half, half)
                        there = xs.at[stage, group, g]
                        plgpu.copy_gmem_to_smem(x.at[batch, seen], there, arrived)
                below = pl.ds((run * parts + part) * size * deep, size * deep)
                plgpu.copy_gmem_to_smem(w.at[below], ws.at[stage], arrived)
                return step + 1

            return lax.fori_loop(0, counts[c] * parts, one, step)

        def multiply(item, group, step):
            m, c = lax.div(item, across), lax.rem(item, across)

            def add(acc, stage):
                for g in range(size):
                    block = ws.at[stage, pl.ds(g * deep, deep)]
                    plgpu.wgmma(acc, xs.at[stage, group, g], block)

            steps = counts[c] * parts
            found = gpu_ring.total((half, cols), steps, step, ring, add)
            if bias is not None:
                offset = offsets[pl.ds(c * cols, cols)]
                found = found + lax.broadcast_in_dim(offset, found.shape, (1,))
            found = ACTIVATIONS[activation](found)
            corner = (m * GROUPS + group) * half, c * cols
            store(found.astype(y.dtype), ys.at[group], y, corner)
            return step + steps

        gpu_ring.work(lax.div(x.shape[0], tile) * across, launch, ring, copy, multiply)

    # Both factors have to lie alike.
    held = swizzled(min(deep, cols), x.dtype)
    scratch = {
        "xs": plgpu.SMEM((stages, GROUPS, size, half, deep), x.dtype, transforms=held),
        "ws": plgpu.SMEM((stages, size * deep, cols), x.dtype, transforms=held),
        "ys": plgpu.SMEM((GROUPS, half, cols), x.dtype, transforms=swizzled(cols, x.dtype)),
        **gpu_ring.barriers(size * GROUPS + 1, stages),
    }
    offsets = jnp.zeros(1) if bias is None else bias
    tables = (*_of_columns(runs, across), runs.rows.ravel(), offsets)
    out = jax.ShapeDtypeStruct((x.shape[0], across * cols), x.dtype)
    args = (*tables, x, weights.reshape(-1, cols))
    return gpu_ring.call(block_sparse_product, args, out, scratch, launch)


def _of_columns(runs: Runs, across: int) -> tuple[jax.Array, jax.Array]:
    """int32 (C,), twice: each column's first run and how many of its runs, from there on, hold blocks."""
    first = jnp.searchsorted(runs.col, jnp.arange(across, dtype=jnp.int32))
    counts = jnp.zeros(across, jnp.int32).at[runs.col].add((runs.length > 0).astype(jnp.int32))
    return first.astype(jnp.int32), counts
