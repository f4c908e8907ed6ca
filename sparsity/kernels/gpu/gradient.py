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

from sparsity.kernels.gpu import budget, persistent
from sparsity.kernels.gpu.persistent import GROUPS, Axis, Launch, Ring, swizzled
from sparsity.kernels.gpu.pieces import Pieces, Window
from sparsity.kernels.gpu.walk import DEPTH, SINGLE, runs_of
from sparsity.kernels.layout import Layout

HALF = 64
# Where there are fewer runs for a program, the batch is split, into at most so many parts of at least so many
# steps; each costs so much of a round, for its sums are written and added up.
FEW, MOST_SPLITS, LEAST_STEPS, SPLIT_COST = 4, 8, 16, 0.03


class _Plan(NamedTuple):
    """Static facts of a launch.

    block, capacity: of the layout. size: blocks of a run. steps: of a run.
    splits: parts of the batch, whose sums are added up behind the kernel where there are few runs.
    high:   weights of a block that go to one group.
    across: whether x lies (columns, rows): tiles of several blocks cannot be transposed on their way.
    both:   whether dy does too: rows of 16 numbers are less than copies need to be fast.
    pieces: of x and dy, a step each.
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


class _Refs(NamedTuple):
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


def gradient(
    x: jax.Array, dy: jax.Array, layout: Layout, window: Window | None, launch: Launch
) -> jax.Array:
    """x.T @ dy at live blocks, (capacity, rows, cols) and 0 in padding: x (M, K), dy (M, N).

    With a window both are (images, pixels * features), in whole blocks of features.
    """
    plan, beyond = _plan(layout, window, dy.shape[0], launch), 0 if window is None else 1
    runs = runs_of(layout, plan.size)
    rows = plan.pieces.reach(plan.steps)
    seen = _seen(x, rows, persistent.blocks(x.shape[1], plan.block[0], beyond), plan.across, launch)
    given = _seen(dy, rows, persistent.blocks(dy.shape[1], plan.block[1]), plan.both, launch)

    body = lambda *refs, **shared: _work(plan, launch, _Refs(*refs, **shared))
    (rows, cols), wide = plan.block, x.dtype if plan.splits == 1 else jnp.float32
    out = jax.ShapeDtypeStruct((plan.splits * plan.capacity * rows, cols), wide)
    args = (*persistent.given(*runs, layout.rows), seen, given)
    held = _scratch(plan, x.dtype, wide)
    found = persistent.call(body, "block_sparse_gradient", args, out, held, launch)
    found = jnp.sum(found.reshape(plan.splits, plan.capacity, rows, cols), 0)
    return jnp.where(layout.live[:, None, None], found, 0).astype(x.dtype)


def _seen(x: jax.Array, rows: int, features: Axis, turned: bool, launch: Launch) -> jax.Array:
    """x or dy as the kernel copies it, so many rows."""
    axes = Axis(x.shape[0], rows, DEPTH, DEPTH if turned else 8), features
    seen = persistent.reaching(x, axes, launch)
    return seen.T if turned else seen


def _plan(layout: Layout, window: Window | None, count: int, launch: Launch) -> _Plan:
    rows, cols = layout.block
    tall, pieces = GROUPS * HALF, Pieces(DEPTH, window)
    size, steps = tall // rows, pieces.of(count)
    return _Plan(
        block=layout.block,
        capacity=layout.capacity,
        size=size,
        steps=steps,
        splits=_splits(layout.capacity // size, steps, launch.programs),
        stages=budget.of_gradient(tall, DEPTH, cols, launch.stages).stages,
        high=min(rows, HALF),
        across=rows < HALF or cols < SINGLE,
        both=min(rows, cols) < SINGLE,
        pieces=pieces,
    )


def _splits(runs: int, steps: int, programs: int) -> int:
    """Parts of the batch, so that few runs occupy all programs and their last round is not almost empty."""
    if runs >= FEW * programs:
        return 1
    rounds = lambda parts: -(-max(1, runs) * parts // programs) / parts
    most = min(MOST_SPLITS, max(1, steps // LEAST_STEPS))
    return min(range(1, most + 1), key=lambda parts: rounds(parts) * (1 + SPLIT_COST * (parts - 1)))


def _scratch(plan: _Plan, dtype: Any, wide: Any) -> dict[str, Any]:
    cols = plan.block[1]
    x = (HALF, DEPTH) if plan.across else (DEPTH, HALF)
    dy = (cols, DEPTH) if plan.both else (DEPTH, cols)
    # Both factors have to lie alike, though x could have longer rows.
    held = swizzled(DEPTH if plan.both else cols, dtype)
    return {
        "xs": plgpu.SMEM((plan.stages, GROUPS, *x), dtype, transforms=held),
        "dys": plgpu.SMEM((plan.stages, *dy), dtype, transforms=held),
        "dws": plgpu.SMEM((GROUPS, HALF, cols), wide, transforms=swizzled(cols, wide)),
        **persistent.barriers(GROUPS * HALF // plan.high + 1, plan.stages),
    }


def _work(plan: _Plan, launch: Launch, refs: _Refs) -> None:
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


def _place(plan: _Plan, refs: _Refs, runs: Any, item: Any) -> _Place:
    """All runs of a part of the batch come before the next part, so that x and dy stay in the cache."""
    part, run = lax.div(item, runs), lax.rem(item, runs)
    each = -(-plan.steps // plan.splits)
    begin, end = part * each, jnp.minimum((part + 1) * each, plan.steps)
    return _Place(part, begin, end, refs.col[run], refs.first[run], refs.length[run])


def _copy(plan: _Plan, refs: _Refs, ring: Ring, group: Any, place: _Place, step: Any) -> Any:
    """The steps of a run: the batch entries of its blocks' columns of x, and of its column of dy."""
    # Beyond the run's last block the last one again.
    blocks = [place.first + jnp.minimum(k, place.length - 1) for k in range(plan.size)]
    rows = [refs.rows[block] for block in blocks]

    def one(i, step):
        stage, arrived = ring.claim(step)
        for at in range(0, GROUPS * HALF, plan.high):
            corner = plan.pieces.read(i, rows[at // plan.block[0]])
            x, there = _tile_of_x(plan, refs, corner, stage, at)
            plgpu.copy_gmem_to_smem(x, there, arrived)
        dy = _tile_of_dy(plan, refs, plan.pieces.written(i, place.col))
        plgpu.copy_gmem_to_smem(dy, refs.dys.at[stage], arrived)
        return step + 1

    return lax.fori_loop(place.begin, place.end, one, step)


def _tile_of_x(plan: _Plan, refs: _Refs, corner: Any, stage: Any, at: int) -> Any:
    """A step's columns of x for the run's weights from `at` on, and their place."""
    rows, (group, inside), (below, feature) = plan.block[0], divmod(at, HALF), corner
    batch, seen = pl.ds(below, DEPTH), pl.ds(feature * rows + at % rows, plan.high)
    if plan.across:
        return refs.x.at[seen, batch], refs.xs.at[stage, group, pl.ds(inside, plan.high)]
    return refs.x.at[batch, seen], refs.xs.at[stage, group]


def _tile_of_dy(plan: _Plan, refs: _Refs, corner: Any) -> Any:
    (below, column), cols = corner, plan.block[1]
    batch, outputs = pl.ds(below, DEPTH), pl.ds(column * cols, cols)
    return refs.dy.at[outputs, batch] if plan.both else refs.dy.at[batch, outputs]


def _multiply(plan: _Plan, refs: _Refs, ring: Ring, group: Any, place: _Place, step: Any) -> Any:
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


def _store(plan: _Plan, refs: _Refs, place: _Place, group: Any, inside: int) -> None:
    """A block of a group's half, or its part of one, to its packed place, if there is one."""
    at, rows = group * HALF + inside, plan.block[0]
    block = lax.div(at, rows)

    @pl.when(block < place.length)
    def _():
        packed = place.part * plan.capacity + place.first + block
        there = pl.ds(packed * rows + lax.rem(at, rows), plan.high)
        plgpu.copy_smem_to_gmem(refs.dws.at[group, pl.ds(inside, plan.high)], refs.dw.at[there])
