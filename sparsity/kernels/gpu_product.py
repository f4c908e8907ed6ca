"""Dense times sparse on Hopper: a tile of y at a time, over the steps of its column.

A step brings the tile of x that a block reads and the block's weights; a block of 128 is two steps, and blocks
of 16 share one (`gpu_walk`). Tiles of y are shared out so that programs get columns with many live blocks and
with few in like measure.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels import gpu_budget, gpu_ring
from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.gpu_ring import GROUPS, Axis, Launch, Ring, store, swizzled
from sparsity.kernels.gpu_walk import DEPTH, Walk, steps_of

# Rows of x that a program multiplies at once; few rows, or few tiles of y, take half as many.
TILE = 256


class End(NamedTuple):
    """What becomes of sums: activation(sum + bias), bias (N,) or None."""

    bias: jax.Array | None = None
    activation: str = "none"


class _Plan(NamedTuple):
    """Static facts of a launch.

    block:   (along, across) the walk. columns: of blocks.
    shared:  blocks of a step, `deep` weights of each. parts: steps of a block.
    turned:  whether weights lie (across, along).
    half, tiles: rows of x for a group, and tiles of x.
    line:    rows of x in a line, 0 where no block reads further down, and `beyond` as far as they read.
    biased, activation: how it ends.
    """

    block: tuple[int, int]
    columns: int
    shared: int
    deep: int
    parts: int
    turned: bool
    half: int
    tiles: int
    stages: int
    line: int
    beyond: int
    biased: bool
    activation: str


class _Refs(NamedTuple):
    """The kernel's tables, bias, x, weights, y, and shared memory."""

    starts: Any
    order: Any
    features: Any
    shifts: Any
    places: Any
    offsets: Any
    x: Any
    w: Any
    y: Any
    xs: Any
    ws: Any
    ys: Any
    full: Any
    free: Any


def product(x: jax.Array, walk: Walk, count: int, end: End, launch: Launch) -> jax.Array:
    """activation(x @ W + bias) of `count` rows, (count, N), W being what is walked.

    x: (rows, columns), as far as the walk's sources read.
    """
    layout = walk.layout
    fused = end.bias is None or loads_bias(layout)
    y = _whole(x, walk, count, end if fused else End(), launch)
    y = y[:count, : layout.shape[1]]
    if fused or end.bias is None:
        return y
    return ACTIVATIONS[end.activation](y + end.bias.astype(jnp.float32)).astype(x.dtype)


def loads_bias(layout: Any) -> bool:
    """Whether the kernel can add the bias; elsewhere XLA adds it to rounded sums.

    Mosaic loads whole lines of 128 bytes as accumulators lie, from jax 0.12 on.
    """
    return jax.__version_info__ >= (0, 12) and layout.block[1] * 4 >= 128


def _whole(x: jax.Array, walk: Walk, count: int, end: End, launch: Launch) -> jax.Array:
    """The product with as many rows and columns as the kernel writes."""
    plan, steps = _plan(walk, count, end, launch), steps_of(walk)
    wide = plan.columns * plan.block[1]
    bias = end.bias
    if bias is not None:
        bias = jnp.pad(bias.astype(jnp.float32), (0, wide - bias.size))
    tables = gpu_ring.given(*steps[:-1], bias)
    args = (*tables, _seen(x, plan, launch), steps.weights)

    def block_sparse_product(*refs, **shared):
        _work(plan, launch, _Refs(*refs, **shared))

    rows = Axis(count, plan.tiles * GROUPS * plan.half, plan.half, 8)
    out = jax.ShapeDtypeStruct((launch.reach(rows), wide), x.dtype)
    return gpu_ring.call(block_sparse_product, args, out, _scratch(plan, x.dtype), launch)


def _seen(x: jax.Array, plan: _Plan, launch: Launch) -> jax.Array:
    """x as the kernel copies it: (features, rows) where blocks share a step."""
    (count, features), side = x.shape, plan.block[0]
    below = plan.tiles * GROUPS * plan.half + plan.beyond
    rows = Axis(count, below, plan.half, 8 if plan.shared == 1 else DEPTH)
    seen = gpu_ring.reaching(x, (rows, gpu_ring.blocks(features, side)), launch)
    return seen if plan.shared == 1 else seen.T


def _plan(walk: Walk, count: int, end: End, launch: Launch) -> _Plan:
    layout, shared = walk.layout, walk.shared
    (rows, cols), columns = layout.block, layout.grid[1]
    few = count <= TILE // 2 or -(-count // TILE) * columns < launch.programs
    tile, deep = TILE // 2 if few else TILE, DEPTH if shared > 1 else min(rows, DEPTH)
    return _Plan(
        block=layout.block,
        columns=columns,
        shared=shared,
        deep=deep,
        parts=max(1, rows // DEPTH),
        turned=shared > 1 or walk.places is not None,
        half=tile // GROUPS,
        tiles=max(1, -(-count // tile)),
        stages=gpu_budget.of_product(tile, deep, cols, launch.stages).stages,
        line=walk.sources.line,
        beyond=(walk.sources.lines - 1) * walk.sources.line,
        biased=end.bias is not None,
        activation=end.activation,
    )


def _scratch(plan: _Plan, dtype: Any) -> dict[str, Any]:
    cols = plan.block[1]
    # Both factors have to lie alike.
    held = swizzled(plan.deep if plan.turned else min(plan.deep, cols), dtype)
    x = (plan.half, plan.deep) if plan.shared == 1 else (plan.deep, plan.half)
    w = (cols, plan.deep) if plan.turned else (plan.deep, cols)
    return {
        "xs": plgpu.SMEM((plan.stages, GROUPS, *x), dtype, transforms=held),
        "ws": plgpu.SMEM((plan.stages, *w), dtype, transforms=held),
        "ys": plgpu.SMEM((GROUPS, plan.half, cols), dtype, transforms=swizzled(cols, dtype)),
        **gpu_ring.barriers(plan.shared * GROUPS + 1, plan.stages),
    }


def _work(plan: _Plan, launch: Launch, refs: _Refs) -> None:
    ring = Ring(plan.stages, refs.full, refs.free)
    roles = (
        functools.partial(_copy, plan, refs, ring),
        functools.partial(_multiply, plan, refs, ring),
    )
    gpu_ring.work(
        plan.tiles * plan.columns,
        launch,
        ring,
        functools.partial(_place, plan, launch, refs),
        roles,
    )


class _Place(NamedTuple):
    """An item's tile of x, its column, and which steps of the walk are the column's."""

    tile: Any
    column: Any
    first: Any
    end: Any


def _place(plan: _Plan, launch: Launch, refs: _Refs, item: Any) -> _Place:
    """All columns of a tile come before the next tile, so that x stays in the cache.

    A program takes every `programs`-th item, so that its columns' ranks by live count differ by multiples of
    `alike`; every other group of so many is reversed, and no program gets the heavier one of each.
    """
    tile, rank = lax.div(item, plan.columns), lax.rem(item, plan.columns)
    alike = math.gcd(launch.programs, plan.columns)
    if alike == plan.columns:
        rank = lax.rem(rank + tile, plan.columns)
    else:
        group, inside = lax.div(rank, alike), lax.rem(rank, alike)
        rank = group * alike + jnp.where(lax.rem(group, 2) == 1, alike - 1 - inside, inside)
    column = refs.order[rank]
    return _Place(tile, column, refs.starts[column], refs.starts[column + 1])


class _Read(NamedTuple):
    """What a step reads: which block of features for each of its blocks, how many lines down, and its weights' place."""

    features: tuple[Any, ...]
    shifts: tuple[Any, ...]
    weights: Any


def _read(plan: _Plan, refs: _Refs, at: Any) -> _Read:
    at = jnp.minimum(at, refs.features.shape[0] // plan.shared - 1)
    blocks = [at * plan.shared + g for g in range(plan.shared)]
    shifts = tuple(refs.shifts[block] if plan.line else 0 for block in blocks)
    weights = refs.places[at] if plan.turned and plan.shared == 1 else at
    return _Read(tuple(refs.features[block] for block in blocks), shifts, weights)


def _copy(plan: _Plan, refs: _Refs, ring: Ring, group: Any, place: _Place, step: Any) -> Any:
    """All steps of a tile of y: the tiles of x that its column's blocks ask for, and their weights."""

    def one(i, carried):
        step, read = carried
        following = _read(plan, refs, place.first + lax.div(i + 1, plan.parts))
        stage, arrived = ring.claim(step)
        _copy_step(plan, refs, place.tile, read, lax.rem(i, plan.parts), stage, arrived)
        return step + 1, following

    steps = (place.end - place.first) * plan.parts
    return lax.fori_loop(0, steps, one, (step, _read(plan, refs, place.first)))[0]


def _copy_step(
    plan: _Plan, refs: _Refs, tile: Any, read: _Read, part: Any, stage: Any, arrived: Any
) -> None:
    for g in range(plan.shared):
        for group in range(GROUPS):
            x, there = _tile_of_x(plan, refs, tile, read, part, stage, g, group)
            plgpu.copy_gmem_to_smem(x, there, arrived)
    plgpu.copy_gmem_to_smem(_weights(plan, refs, read.weights, part), refs.ws.at[stage], arrived)


def _tile_of_x(plan, refs, tile, read, part, stage, g, group) -> tuple[Any, Any]:
    """A block's columns of x for a group, and their place: beside each other where blocks share a step."""
    rows = plan.block[0]
    wide = pl.ds(read.features[g] * rows + part * plan.deep, min(rows, plan.deep))
    # Multiplied here, where the compiler sees that it is whole tiles.
    below = (tile * GROUPS + group) * plan.half + read.shifts[g] * plan.line
    batch = pl.ds(below, plan.half)
    if plan.shared == 1:
        return refs.x.at[batch, wide], refs.xs.at[stage, group]
    return refs.x.at[wide, batch], refs.xs.at[stage, group, pl.ds(g * rows, rows)]


def _weights(plan: _Plan, refs: _Refs, at: Any, part: Any) -> Any:
    """Where a step's weights lie in memory."""
    (rows, cols), deep = plan.block, plan.deep
    if plan.turned:
        return refs.w.at[pl.ds(at * cols, cols), pl.ds(part * deep, deep)]
    return refs.w.at[pl.ds(at * rows + part * deep, deep)]


def _multiply(plan: _Plan, refs: _Refs, ring: Ring, group: Any, place: _Place, step: Any) -> Any:
    """This group's half of a tile of y."""
    cols, steps = plan.block[1], (place.end - place.first) * plan.parts

    def add(acc, stage):
        x, w = refs.xs.at[stage, group], refs.ws.at[stage]
        x = x if plan.shared == 1 else x.transpose((1, 0))
        plgpu.wgmma(acc, x, w.transpose((1, 0)) if plan.turned else w)

    y = gpu_ring.total((plan.half, cols), steps, step, ring, add)
    if plan.biased:
        y = y + lax.broadcast_in_dim(refs.offsets[pl.ds(place.column * cols, cols)], y.shape, (1,))
    y = ACTIVATIONS[plan.activation](y).astype(refs.y.dtype)
    corner = ((place.tile * GROUPS + group) * plan.half, place.column * cols)
    store(y, refs.ys.at[group], refs.y, corner)
    return step + steps
