"""The GPU's product at work: which tile of y a program takes next, what is copied for it, and how it is multiplied.

Tiles are shared out so that programs get columns with many live blocks and with few in like measure.
"""

import functools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.gpu import persistent
from sparsity.kernels.gpu.persistent import GROUPS, Launch, Ring, hold
from sparsity.kernels.gpu.pieces import Pieces


class Plan(NamedTuple):
    """Static facts of a launch.

    block:   (along, across) the walk. columns: of blocks.
    shared:  blocks of a step, `deep` weights of each. parts: steps of a block.
    turned:  whether weights lie (across, along).
    half, tiles: rows of x for a group, and tiles of x.
    pieces:  of x, and each of them of a group.
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
    pieces: Pieces
    each: int
    biased: bool
    activation: str

    @property
    def copies(self) -> int:
        """Of a step: the pieces of both groups for each block, and the weights."""
        return self.shared * GROUPS * self.each + 1


class Refs(NamedTuple):
    """The kernel's tables, bias, x, weights, y, and shared memory."""

    starts: Any
    order: Any
    rows: Any
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


def work(plan: Plan, launch: Launch, refs: Refs) -> None:
    """The body of the kernel."""
    ring = Ring(plan.stages, refs.full, refs.free)
    roles = (
        functools.partial(_copy, plan, refs, ring),
        functools.partial(_multiply, plan, refs, ring),
    )
    persistent.work(
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


def _place(plan: Plan, launch: Launch, refs: Refs, item: Any) -> _Place:
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
    """What a step reads: the block row of each of its blocks, and its weights' place."""

    rows: tuple[Any, ...]
    weights: Any


def _read(plan: Plan, refs: Refs, at: Any) -> _Read:
    at = jnp.minimum(at, refs.rows.shape[0] // plan.shared - 1)
    blocks = [at * plan.shared + g for g in range(plan.shared)]
    weights = refs.places[at] if plan.turned and plan.shared == 1 else at
    return _Read(tuple(refs.rows[block] for block in blocks), weights)


def _copy(plan: Plan, refs: Refs, ring: Ring, group: Any, place: _Place, step: Any) -> Any:
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
    plan: Plan, refs: Refs, tile: Any, read: _Read, part: Any, stage: Any, arrived: Any
) -> None:
    for g, row in enumerate(read.rows):
        for at in range(GROUPS * plan.each):
            # Multiplied where it is copied: there the compiler sees that it is whole tiles.
            below, feature = plan.pieces.read(tile * GROUPS * plan.each + at, row)
            x = _tile_of_x(plan, refs, below, feature, part)
            plgpu.copy_gmem_to_smem(x, _held(plan, refs, stage, at, g), arrived)
    plgpu.copy_gmem_to_smem(_weights(plan, refs, read.weights, part), refs.ws.at[stage], arrived)


def _tile_of_x(plan: Plan, refs: Refs, below: Any, feature: Any, part: Any) -> Any:
    """A block's columns of x for a piece."""
    rows = plan.block[0]
    wide = pl.ds(feature * rows + part * plan.deep, min(rows, plan.deep))
    batch = pl.ds(below, plan.pieces.rows)
    return refs.x.at[batch, wide] if plan.shared == 1 else refs.x.at[wide, batch]


def _held(plan: Plan, refs: Refs, stage: Any, at: int, g: int) -> Any:
    """Where a step holds the at-th piece for its g-th block: beside each other where blocks share a step."""
    group, piece = divmod(at, plan.each)
    batch, rows = pl.ds(piece * plan.pieces.rows, plan.pieces.rows), plan.block[0]
    if plan.shared == 1:
        return refs.xs.at[stage, group, batch]
    return refs.xs.at[stage, group, pl.ds(g * rows, rows), batch]


def _weights(plan: Plan, refs: Refs, at: Any, part: Any) -> Any:
    """Where a step's weights lie in memory."""
    (rows, cols), deep = plan.block, plan.deep
    if plan.turned:
        return refs.w.at[pl.ds(at * cols, cols), pl.ds(part * deep, deep)]
    return refs.w.at[pl.ds(at * rows + part * deep, deep)]


def _multiply(plan: Plan, refs: Refs, ring: Ring, group: Any, place: _Place, step: Any) -> Any:
    """This group's half of a tile of y."""
    cols, steps = plan.block[1], (place.end - place.first) * plan.parts

    def add(acc, stage):
        x, w = refs.xs.at[stage, group], refs.ws.at[stage]
        x = x if plan.shared == 1 else x.transpose((1, 0))
        plgpu.wgmma(acc, x, w.transpose((1, 0)) if plan.turned else w)

    y = persistent.total((plan.half, cols), steps, step, ring, add)
    if plan.biased:
        y = y + lax.broadcast_in_dim(refs.offsets[pl.ds(place.column * cols, cols)], y.shape, (1,))
    y = ACTIVATIONS[plan.activation](y).astype(refs.y.dtype)
    hold(y, refs.ys.at[group])
    for at in range(plan.each):
        piece = (place.tile * GROUPS + group) * plan.each + at
        _store(plan, refs, group, at, plan.pieces.written(piece, place.column))
    return step + steps


def _store(plan: Plan, refs: Refs, group: Any, at: int, corner: tuple[Any, Any]) -> None:
    """The at-th piece of a group's half to its place in y, if it has one; the copy goes on by itself."""
    (below, column), rows, cols = corner, plan.pieces.rows, plan.block[1]

    def copy():
        there = refs.y.at[pl.ds(below, rows), pl.ds(column * cols, cols)]
        plgpu.copy_smem_to_gmem(refs.ys.at[group, pl.ds(at * rows, rows)], there)

    if plan.pieces.made is None:
        copy()
    else:
        pl.when(column < plan.pieces.made)(copy)
