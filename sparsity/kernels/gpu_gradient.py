"""The gradient of live blocks on Hopper: dense times dense, only where a block lives.

The accumulator of a tensor core's product has 64 rows at least, so that live blocks of a column are grouped
into runs of 128 weights, one half to each group; a step is 64 batch entries.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels import gpu_budget, gpu_ring
from sparsity.kernels.gpu_budget import DEPTH
from sparsity.kernels.gpu_ring import GROUPS, Launch, Ring, store, swizzled
from sparsity.kernels.layout import Layout
from sparsity.kernels.runs import from_runs, runs_of
from sparsity.kernels.sources import Sources

HALF = 64


class _Plan(NamedTuple):
    """Static facts of a launch.

    block: of the layout. slots, size: runs, and blocks of one. steps: of a run, if it has blocks.
    high:    weights of a block that go to one group.
    turned:  whether x lies (columns, rows): tiles of several blocks cannot be transposed on their way.
    line:    rows of x in a line, 0 where no block reads further down.
    """

    block: tuple[int, int]
    slots: int
    size: int
    steps: int
    stages: int
    high: int
    turned: bool
    line: int


class _Refs(NamedTuple):
    """The kernel's tables, x, dy, dw, and shared memory."""

    lengths: Any
    outputs: Any
    features: Any
    shifts: Any
    x: Any
    dy: Any
    dw: Any
    xs: Any
    dys: Any
    dws: Any
    full: Any
    free: Any


def gradient(
    x: jax.Array, dy: jax.Array, layout: Layout, sources: Sources, launch: Launch
) -> jax.Array:
    """x.T @ dy at live blocks, (capacity, rows, cols) and 0 in padding; each finds its x by `sources`.

    dy: (M, C * cols) with M in steps of 64, x: (rows, columns) as far as the last step of a block reads.
    """
    plan = _plan(layout, sources, dy.shape[0] // DEPTH, launch)
    runs = runs_of(layout, plan.size)
    seen = x.T if plan.turned else x
    args = (runs.length, runs.col, *sources.of_runs(runs), seen, dy)

    def block_sparse_gradient(*refs, **shared):
        _work(plan, launch, _Refs(*refs, **shared))

    cols = plan.block[1]
    out = jax.ShapeDtypeStruct((plan.slots * GROUPS * HALF, cols), x.dtype)
    found = gpu_ring.call(block_sparse_gradient, args, out, _scratch(plan, x.dtype), launch)
    return from_runs(found.reshape(plan.slots, -1, cols), runs, layout)


def _plan(layout: Layout, sources: Sources, steps: int, launch: Launch) -> _Plan:
    size = GROUPS * HALF // layout.block[0]
    return _Plan(
        block=layout.block,
        slots=layout.grid[1] + layout.capacity // size,
        size=size,
        steps=steps,
        stages=gpu_budget.of_gradient(GROUPS * HALF, layout.block, launch.stages).stages,
        high=min(layout.block[0], HALF),
        turned=layout.block[0] < HALF,
        line=sources.line,
    )


def _scratch(plan: _Plan, dtype: Any) -> dict[str, Any]:
    tile, cols = (HALF, DEPTH) if plan.turned else (DEPTH, HALF), plan.block[1]
    # Both factors have to lie alike, though x could have longer rows.
    held = swizzled(cols, dtype)
    return {
        "xs": plgpu.SMEM((plan.stages, GROUPS, *tile), dtype, transforms=held),
        "dys": plgpu.SMEM((plan.stages, DEPTH, cols), dtype, transforms=held),
        "dws": plgpu.SMEM((GROUPS, HALF, cols), dtype, transforms=held),
        **gpu_ring.barriers(GROUPS * HALF // plan.high + 1, plan.stages),
    }


def _work(plan: _Plan, launch: Launch, refs: _Refs) -> None:
    ring = Ring(plan.stages, refs.full, refs.free)
    roles = (functools.partial(role, plan, refs, ring) for role in (_copy, _multiply))
    gpu_ring.work(plan.slots, launch, ring, *roles)


def _steps(plan: _Plan, refs: _Refs, slot: Any) -> Any:
    return jnp.where(refs.lengths[slot] > 0, plan.steps, 0)


def _copy(plan: _Plan, refs: _Refs, ring: Ring, slot: Any, step: Any) -> Any:
    """All steps of a run: the batch entries of its blocks' columns of x, and of its column of dy."""
    rows, cols = plan.block
    outputs = pl.ds(refs.outputs[slot] * cols, cols)

    def one(i, step):
        stage, arrived = ring.claim(step)
        for at in range(0, GROUPS * HALF, plan.high):
            block, (group, inside) = slot * plan.size + at // rows, divmod(at, HALF)
            down = refs.shifts[block] * plan.line if plan.line else 0
            batch = pl.ds(i * DEPTH + down, DEPTH)
            seen = pl.ds(refs.features[block] * rows + at % rows, plan.high)
            there = refs.xs.at[stage, group]
            if plan.turned:
                there = there.at[pl.ds(inside, plan.high)]
            source = refs.x.at[seen, batch] if plan.turned else refs.x.at[batch, seen]
            plgpu.copy_gmem_to_smem(source, there, arrived)
        batch = pl.ds(i * DEPTH, DEPTH)
        plgpu.copy_gmem_to_smem(refs.dy.at[batch, outputs], refs.dys.at[stage], arrived)
        return step + 1

    return lax.fori_loop(0, _steps(plan, refs, slot), one, step)


def _multiply(plan: _Plan, refs: _Refs, ring: Ring, slot: Any, group: Any, step: Any) -> Any:
    """This group's half of a run."""

    def add(acc, stage):
        seen = refs.xs.at[stage, group]
        plgpu.wgmma(acc, seen if plan.turned else seen.transpose((1, 0)), refs.dys.at[stage])

    steps = _steps(plan, refs, slot)
    dw = gpu_ring.total((HALF, plan.block[1]), steps, step, ring, add).astype(refs.dw.dtype)
    store(dw, refs.dws.at[group], refs.dw, ((slot * GROUPS + group) * HALF, 0))
    return step + steps
