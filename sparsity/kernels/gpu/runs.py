"""The GPU's gradient at work: which run of live blocks a program takes next, what is copied for it, where it goes.

A step is 64 batch entries: of a convolution, images of one pixel or of a few.
"""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels.gpu import persistent
from sparsity.kernels.gpu.persistent import GROUPS, Launch, Ring
from sparsity.kernels.gpu.pieces import Pieces

# Weights of a group, the least rows that an accumulator has.
HALF = 64


class Plan(NamedTuple):
    """Static facts of a launch.

    block, capacity: of the layout. size: blocks of a run. steps: of a run.
    splits: parts of the batch, whose sums are added up behind the kernel where there are few runs.
    high:   weights of a block that go to one group.
    across: whether x lies (columns, rows): tiles of several blocks cannot be transposed on their way.
    both:   whether dy does too: rows of 16 numbers are less than copies need to be fast.
    pieces: of x and dy, `each` of them in a step.
    """

    block: tuple[int, int]
    capacity: int
    size: int
    steps: int
    splits: int
    stages: int
    high: int
    across: bool
    both: bool
    pieces: Pieces
    each: int

    @property
    def copies(self) -> int:
        """Of a step: what each piece has for the weights of both groups, and of dy."""
        return (GROUPS * HALF // self.high + 1) * self.each


class Refs(NamedTuple):
    """The kernel's tables, x, dy, dw, and shared memory."""

    starts: Any
    col: Any
    first: Any
    length: Any
    rows: Any
    x: Any
    dy: Any
    dw: Any
    xs: Any
    dys: Any
    dws: Any
    full: Any
    free: Any


def work(plan: Plan, launch: Launch, refs: Refs) -> None:
    """The body of the kernel."""
    ring = Ring(plan.stages, refs.full, refs.free)
    roles = (
        functools.partial(_copy, plan, refs, ring),
        functools.partial(_multiply, plan, refs, ring),
    )
    runs = refs.starts[refs.starts.shape[0] - 1]
    place = functools.partial(_place, plan, refs, jnp.maximum(runs, 1))
    persistent.work(runs * plan.splits, launch, ring, place, roles)


class _Place(NamedTuple):
    """An item: its part of the batch, its steps from `begin` to `end`, and a run's column, first place and length."""

    part: Any
    begin: Any
    end: Any
    col: Any
    first: Any
    length: Any


def _place(plan: Plan, refs: Refs, runs: Any, item: Any) -> _Place:
    """All runs of a part of the batch come before the next part, so that x and dy stay in the cache."""
    part, run = lax.div(item, runs), lax.rem(item, runs)
    each = -(-plan.steps // plan.splits)
    begin, end = part * each, jnp.minimum((part + 1) * each, plan.steps)
    return _Place(part, begin, end, refs.col[run], refs.first[run], refs.length[run])


def _copy(plan: Plan, refs: Refs, ring: Ring, group: Any, place: _Place, step: Any) -> Any:
    """The steps of a run: the batch entries of its blocks' columns of x, and of its column of dy."""
    # Beyond the run's last block the last one again.
    blocks = [place.first + jnp.minimum(k, place.length - 1) for k in range(plan.size)]
    rows = [refs.rows[block] for block in blocks]

    def one(i, step):
        stage, arrived = ring.claim(step)
        for k in range(plan.each):
            _copy_piece(plan, refs, (rows, place.col), i * plan.each + k, (stage, k), arrived)
        return step + 1

    return lax.fori_loop(place.begin, place.end, one, step)


def _copy_piece(
    plan: Plan, refs: Refs, blocks: tuple[Any, Any], piece: Any, at: tuple[Any, int], arrived: Any
) -> None:
    """A piece of x for a run's block rows, and of dy for its column, to its place in a step: (stage, which of it)."""
    rows, col = blocks
    for weight in range(0, GROUPS * HALF, plan.high):
        corner = plan.pieces.read(piece, rows[weight // plan.block[0]])
        x, there = _tile_of_x(plan, refs, corner, at, weight)
        plgpu.copy_gmem_to_smem(x, there, arrived)
    dy, there = _tile_of_dy(plan, refs, plan.pieces.written(piece, col), at)
    plgpu.copy_gmem_to_smem(dy, there, arrived)


def _tile_of_x(
    plan: Plan, refs: Refs, corner: Any, at: tuple[Any, int], weight: int
) -> tuple[Any, Any]:
    """A piece's columns of x for the run's weights from one on, and their place."""
    (below, feature), (stage, k), count = corner, at, plan.pieces.rows
    (group, inside), rows = divmod(weight, HALF), plan.block[0]
    batch, seen = pl.ds(below, count), pl.ds(feature * rows + weight % rows, plan.high)
    if plan.across:
        return refs.x.at[seen, batch], refs.xs.at[stage, group, pl.ds(inside, plan.high)]
    return refs.x.at[batch, seen], refs.xs.at[stage, group, pl.ds(k * count, count)]


def _tile_of_dy(plan: Plan, refs: Refs, corner: Any, at: tuple[Any, int]) -> tuple[Any, Any]:
    """A piece's columns of dy for the run's column, and their place."""
    (below, column), (stage, k), cols, count = corner, at, plan.block[1], plan.pieces.rows
    batch, outputs = pl.ds(below, count), pl.ds(column * cols, cols)
    if plan.both:
        return refs.dy.at[outputs, batch], refs.dys.at[stage]
    return refs.dy.at[batch, outputs], refs.dys.at[stage, pl.ds(k * count, count)]


def _multiply(plan: Plan, refs: Refs, ring: Ring, group: Any, place: _Place, step: Any) -> Any:
    """This group's half of a run."""

    def add(acc, stage):
        x, dy = refs.xs.at[stage, group], refs.dys.at[stage]
        x, dy = x if plan.across else x.transpose((1, 0)), dy.transpose((1, 0)) if plan.both else dy
        plgpu.wgmma(acc, x, dy)

    shape, steps = (HALF, plan.block[1]), place.end - place.begin
    dw = persistent.total(shape, steps, step, ring, add).astype(refs.dw.dtype)
    persistent.hold(dw, refs.dws.at[group])
    for inside in range(0, HALF, plan.high):
        _store(plan, refs, place, group, inside)
    return step + steps


def _store(plan: Plan, refs: Refs, place: _Place, group: Any, inside: int) -> None:
    """A block of a group's half, or its part of one, to its packed place, if there is one."""
    at, rows = group * HALF + inside, plan.block[0]
    block = lax.div(at, rows)

    @pl.when(block < place.length)
    def _():
        packed = place.part * plan.capacity + place.first + block
        there = pl.ds(packed * rows + lax.rem(at, rows), plan.high)
        plgpu.copy_smem_to_gmem(refs.dws.at[group, pl.ds(inside, plan.high)], refs.dw.at[there])
