"""Dense times sparse on Hopper: a tile of y at a time, over the runs of its column.

A step is 64 weights deep whatever the block: as many tiles of x as the run has blocks, and one tile of weights.
A block of 128 is two steps.
"""

import functools
from typing import Any, NamedTuple

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
from sparsity.kernels.runs import Runs, runs_of, to_runs
from sparsity.kernels.sources import Sources

# Rows of x that a program multiplies at once; few rows take half as many.
TILE = 256


class End(NamedTuple):
    """What becomes of sums: activation(sum + bias), bias (N,) or None."""

    bias: jax.Array | None = None
    activation: str = "none"


class _Plan(NamedTuple):
    """Static facts of a launch.

    block, across: of the layout, and its columns. size: blocks of a run, `deep` weights of each in a step.
    parts: steps of a block.  half, tiles: rows of x for a group, and tiles of x.
    line: rows of x in a line, 0 where no block reads further down. biased, activation: how it ends.
    """

    block: tuple[int, int]
    across: int
    size: int
    deep: int
    parts: int
    half: int
    tiles: int
    stages: int
    line: int
    biased: bool
    activation: str


class _Refs(NamedTuple):
    """The kernel's tables, x, weights, y, and shared memory."""

    firsts: Any
    counts: Any
    features: Any
    shifts: Any
    offsets: Any
    x: Any
    w: Any
    y: Any
    xs: Any
    ws: Any
    ys: Any
    full: Any
    free: Any


def product(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    sources: Sources,
    count: int,
    end: End,
    launch: Launch,
) -> jax.Array:
    """activation(x @ W + bias) of `count` rows, (count, N), where each block finds its x by `sources`.

    x: (rows, columns), as far as the last tile of the last block reads: see `padded_rows`.
    """
    fused = end.bias is None or loads_bias(layout)
    y = _whole(x, packed, layout, sources, count, end if fused else End(), launch)
    y = y[:count, : layout.shape[1]]
    if fused or end.bias is None:
        return y
    return ACTIVATIONS[end.activation](y + end.bias.astype(jnp.float32)).astype(x.dtype)


def loads_bias(layout: Layout) -> bool:
    """Whether the kernel can add the bias; elsewhere XLA adds it to rounded sums.

    Mosaic loads whole lines of 128 bytes as accumulators lie, from jax 0.12 on.
    """
    return jax.__version_info__ >= (0, 12) and layout.block[1] * 4 >= 128


def padded_rows(count: int) -> int:
    """Rows of y for `count`, in whole tiles: what is read of x ends as far behind the last shift."""
    tile = TILE if count > TILE // 2 else TILE // 2
    return max(1, -(-count // tile)) * tile


def _whole(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    sources: Sources,
    count: int,
    end: End,
    launch: Launch,
) -> jax.Array:
    """The product with whole tiles and whole blocks: (tiles * tile, C * cols)."""
    plan = _plan(layout, sources, count, end, launch)
    runs, (_, cols), wide = runs_of(layout, plan.size), plan.block, plan.across * plan.block[1]
    bias = jnp.zeros(wide) if end.bias is None else end.bias.astype(jnp.float32)
    args = (
        *_of_columns(runs, plan.across),
        *sources.of_runs(runs),
        jnp.pad(bias, (0, wide - bias.size)),
        x,
        to_runs(packed, runs).reshape(-1, cols),
    )

    def block_sparse_product(*refs, **shared):
        _work(plan, launch, _Refs(*refs, **shared))

    out = jax.ShapeDtypeStruct((padded_rows(count), wide), x.dtype)
    return gpu_ring.call(block_sparse_product, args, out, _scratch(plan, x.dtype), launch)


def _plan(layout: Layout, sources: Sources, count: int, end: End, launch: Launch) -> _Plan:
    rows = layout.block[0]
    tile = TILE if count > TILE // 2 else TILE // 2
    return _Plan(
        block=layout.block,
        across=layout.grid[1],
        size=max(1, DEPTH // rows),
        deep=min(rows, DEPTH),
        parts=max(1, rows // DEPTH),
        half=tile // GROUPS,
        tiles=padded_rows(count) // tile,
        stages=gpu_budget.of_product(tile, layout.block, launch.stages).stages,
        line=sources.line,
        biased=end.bias is not None,
        activation=end.activation,
    )


def _scratch(plan: _Plan, dtype: Any) -> dict[str, Any]:
    cols = plan.block[1]
    # Both factors have to lie alike.
    held = swizzled(min(plan.deep, cols), dtype)
    x = (plan.stages, GROUPS, plan.size, plan.half, plan.deep)
    return {
        "xs": plgpu.SMEM(x, dtype, transforms=held),
        "ws": plgpu.SMEM((plan.stages, plan.size * plan.deep, cols), dtype, transforms=held),
        "ys": plgpu.SMEM((GROUPS, plan.half, cols), dtype, transforms=swizzled(cols, dtype)),
        **gpu_ring.barriers(plan.size * GROUPS + 1, plan.stages),
    }


def _work(plan: _Plan, launch: Launch, refs: _Refs) -> None:
    ring = Ring(plan.stages, refs.full, refs.free)
    roles = (functools.partial(role, plan, refs, ring) for role in (_copy, _multiply))
    gpu_ring.work(plan.tiles * plan.across, launch, ring, *roles)


def _copy(plan: _Plan, refs: _Refs, ring: Ring, item: Any, step: Any) -> Any:
    """All steps of a tile of y: the tiles of x that its column's runs ask for, and their weights."""
    m, c = lax.div(item, plan.across), lax.rem(item, plan.across)

    def one(i, step):
        stage, arrived = ring.claim(step)
        run, part = refs.firsts[c] + lax.div(i, plan.parts), lax.rem(i, plan.parts)
        for g in range(plan.size):
            block = run * plan.size + g
            down = refs.shifts[block] * plan.line if plan.line else 0
            seen = pl.ds(refs.features[block] * plan.block[0] + part * plan.deep, plan.deep)
            for group in range(GROUPS):
                batch = pl.ds((m * GROUPS + group) * plan.half + down, plan.half)
                there = refs.xs.at[stage, group, g]
                plgpu.copy_gmem_to_smem(refs.x.at[batch, seen], there, arrived)
        tall = plan.size * plan.deep
        below = pl.ds((run * plan.parts + part) * tall, tall)
        plgpu.copy_gmem_to_smem(refs.w.at[below], refs.ws.at[stage], arrived)
        return step + 1

    return lax.fori_loop(0, refs.counts[c] * plan.parts, one, step)


def _multiply(plan: _Plan, refs: _Refs, ring: Ring, item: Any, group: Any, step: Any) -> Any:
    """This group's half of a tile of y."""
    m, c = lax.div(item, plan.across), lax.rem(item, plan.across)
    cols, steps = plan.block[1], refs.counts[c] * plan.parts

    def add(acc, stage):
        for g in range(plan.size):
            block = refs.ws.at[stage, pl.ds(g * plan.deep, plan.deep)]
            plgpu.wgmma(acc, refs.xs.at[stage, group, g], block)

    y = gpu_ring.total((plan.half, cols), steps, step, ring, add)
    if plan.biased:
        y = y + lax.broadcast_in_dim(refs.offsets[pl.ds(c * cols, cols)], y.shape, (1,))
    y = ACTIVATIONS[plan.activation](y).astype(refs.y.dtype)
    store(y, refs.ys.at[group], refs.y, ((m * GROUPS + group) * plan.half, c * cols))
    return step + steps


def _of_columns(runs: Runs, across: int) -> tuple[jax.Array, jax.Array]:
    """int32 (C,), twice: each column's first run and how many of its runs, from there on, hold blocks."""
    first = jnp.searchsorted(runs.col, jnp.arange(across, dtype=jnp.int32))
    counts = jnp.zeros(across, jnp.int32).at[runs.col].add((runs.length > 0).astype(jnp.int32))
    return first.astype(jnp.int32), counts
