"""The gradient of live blocks on Hopper: dense times dense, only where a block lives.

The accumulator of a tensor core's product has 64 rows at least, so that live blocks of a column are grouped
into runs of 128 weights, one half to each group; a step is 64 batch entries.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels import gpu_budget, gpu_ring
from sparsity.kernels.gpu_budget import DEPTH
from sparsity.kernels.gpu_ring import GROUPS, Launch, Ring, store, swizzled
from sparsity.kernels.runs import Runs

HALF = 64


def gradient(
    runs: Runs, x: jax.Array, dy: jax.Array, block: tuple[int, int], launch: Launch
) -> jax.Array:
    """(S, size * rows, cols): x.T @ dy at each run's blocks. Undefined for runs without blocks.

    x (M, R * rows), dy (M, C * cols), with M in steps of 64.
    """
    (rows, cols), (slots, size), steps = block, runs.rows.shape, x.shape[0] // DEPTH
    stages = gpu_budget.of_gradient(GROUPS * HALF, block, launch.stages).stages
    # Tiles of several blocks cannot be transposed on their way, so that small blocks need x transposed.
    turned = rows < HALF
    high = min(rows, HALF)

    def block_sparse_gradient(lengths, cols_, places, x, dy, dw, xs, dys, dws, full, free):
        ring = Ring(stages, full, free)
        counted = lambda slot: jnp.where(lengths[slot] > 0, steps, 0)

        def copy(slot, step):
            outputs = pl.ds(cols_[slot] * cols, cols)

            def one(i, step):
                stage, arrived = ring.claim(step)
                batch = pl.ds(i * DEPTH, DEPTH)
                for at in range(0, GROUPS * HALF, high):
                    group, inside = divmod(at, HALF)
                    seen = pl.ds(places[slot * size + at // rows] * rows + at % rows, high)
                    here = xs.at[stage, group]
                    if turned:
                        there = here.at[pl.ds(inside, high)]
                        plgpu.copy_gmem_to_smem(x.at[seen, batch], there, arrived)
                    else:
                        plgpu.copy_gmem_to_smem(x.at[batch, seen], here, arrived)
                plgpu.copy_gmem_to_smem(dy.at[batch, outputs], dys.at[stage], arrived)
                return step + 1

            return lax.fori_loop(0, counted(slot), one, step)

        def multiply(slot, group, step):
            def add(acc, stage):
                seen = xs.at[stage, group]
                left = seen if turned else seen.transpose((1, 0))
                plgpu.wgmma(acc, left, dys.at[stage])

            found = gpu_ring.total((HALF, cols), counted(slot), step, ring, add)
            corner = (slot * GROUPS + group) * HALF, 0
            store(found.astype(dw.dtype), dws.at[group], dw, corner)
            return step + counted(slot)

        gpu_ring.work(slots, launch, ring, copy, multiply)

    tile = (HALF, DEPTH) if turned else (DEPTH, HALF)
    # Both factors have to lie alike, though x could have longer rows.
    held = swizzled(cols, x.dtype)
    scratch = {
        "xs": plgpu.SMEM((stages, GROUPS, *tile), x.dtype, transforms=held),
        "dys": plgpu.SMEM((stages, DEPTH, cols), x.dtype, transforms=held),
        "dws": plgpu.SMEM((GROUPS, HALF, cols), x.dtype, transforms=held),
        **gpu_ring.barriers(GROUPS * HALF // high + 1, stages),
    }
    args = (runs.length, runs.col, runs.rows.ravel(), x.T if turned else x, dy)
    out = jax.ShapeDtypeStruct((slots * GROUPS * HALF, cols), x.dtype)
    return gpu_ring.call(block_sparse_gradient, args, out, scratch, launch).reshape(slots, -1, cols)
