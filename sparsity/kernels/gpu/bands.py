"""The panel's kernel at work: four groups sum bands of 64 columns of y, a fifth copies what they need.

A program takes a share of the columns of a panel of x at a time, and each group a part of the share. Blocks are packed
column after column, so that all weights of a part lie together: they come in stages of as many blocks, whatever columns
those are of. Each group has a ring of its own, and none waits for another.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.gpu.persistent import Launch, Ring, hold
from sparsity.kernels.gpu.shares import IDS, TALL, WIDE, WORKERS


class Plan(NamedTuple):
    """Static facts of a launch.

    side:     of the blocks. blocks: of features in a panel. columns: of blocks. bands: of 64 columns.
    panels:   of 64 rows of x. shares: of the bands.
    batch:    blocks of a stage. stages: of a ring.
    turned:   whether weights lie (across, along).
    biased, activation: how it ends.
    """

    side: int
    blocks: int
    columns: int
    bands: int
    panels: int
    shares: int
    batch: int
    stages: int
    turned: bool
    biased: bool = False
    activation: str = "none"


class Refs(NamedTuple):
    """The kernel's tables, bias, x, weights, y, and shared memory."""

    starts: Any
    features: Any
    offsets: Any
    x: Any
    w: Any
    y: Any
    xs: Any
    ws: Any
    ids: Any
    ys: Any
    loaded: Any
    done: Any
    full: Any
    free: Any


def work(plan: Plan, launch: Launch, refs: Refs) -> None:
    """The body of the kernel."""
    group, mine = lax.axis_index("group"), lax.axis_index("program")
    turns = (plan.panels * plan.shares - mine + launch.programs - 1) // launch.programs
    item = lambda turn: mine + turn * launch.programs

    @pl.when(group == WORKERS)
    def _():
        one = lambda turn, steps: _copy(plan, refs, item(turn), steps)
        lax.fori_loop(0, turns, one, (jnp.int32(0),) * WORKERS)
        # No arrival is left over when the barriers go.
        plgpu.barrier_wait(refs.done)
        for worker in range(WORKERS):
            _ring(plan, refs, worker).every(plgpu.barrier_wait)

    @pl.when(group < WORKERS)
    def _():
        plgpu.barrier_arrive(refs.done)
        _ring(plan, refs, group).every(plgpu.barrier_arrive)
        one = lambda turn, step: _multiply(plan, refs, group, item(turn), step)
        lax.fori_loop(0, turns, one, jnp.int32(0))
        plgpu.wait_smem_to_gmem(0)


def _ring(plan: Plan, refs: Refs, worker: Any) -> Ring:
    return Ring(plan.stages, refs.full, refs.free, worker * plan.stages)


def _part(plan: Plan, share: Any, worker: Any) -> tuple[Any, Any]:
    """The first band of a group's part of a share, and the first behind it."""
    parts, at = plan.shares * WORKERS, share * WORKERS + worker
    return lax.div(at * plan.bands, parts), lax.div((at + 1) * plan.bands, parts)


def _start(plan: Plan, refs: Refs, band: Any, column: int = 0) -> Any:
    """The packed place where a column of a band begins."""
    at = jnp.minimum(band * (WIDE // plan.side) + column, plan.columns)
    return refs.starts[at]


def _stages(plan: Plan, blocks: Any) -> Any:
    return lax.div(blocks + plan.batch - 1, plan.batch)


# ---- Copying ----


def _copy(plan: Plan, refs: Refs, item: Any, steps: tuple[Any, ...]) -> tuple[Any, ...]:
    """The panel, once the one before is not read any more, and each group's weights of a share in turn."""
    panel, share = lax.div(item, plan.shares), lax.rem(item, plan.shares)
    parts = [_part(plan, share, worker) for worker in range(WORKERS)]
    firsts = [_start(plan, refs, first) for first, _ in parts]
    ends = [_start(plan, refs, end) for _, end in parts]
    lengths = [_stages(plan, end - first) for first, end in zip(firsts, ends, strict=True)]
    _copy_panel(plan, refs, panel)

    def one(i, _):
        for worker, (first, step) in enumerate(zip(firsts, steps, strict=True)):
            place = first + i * plan.batch, step + i
            copy = functools.partial(_copy_stage, plan, refs, worker, *place)
            pl.when(i < lengths[worker])(copy)

    lax.fori_loop(0, functools.reduce(jnp.maximum, lengths), one, None)
    return tuple(step + length for step, length in zip(steps, lengths, strict=True))


def _copy_panel(plan: Plan, refs: Refs, panel: Any) -> None:
    plgpu.barrier_wait(refs.done)
    rows = pl.ds(panel * TALL, TALL)

    def one(block, _):
        features = pl.ds(block * plan.side, plan.side)
        plgpu.copy_gmem_to_smem(refs.x.at[rows, features], refs.xs.at[block], refs.loaded)

    lax.fori_loop(0, plan.blocks, one, None)


def _copy_stage(plan: Plan, refs: Refs, worker: int, at: Any, step: Any) -> None:
    """The weights of a stage from a packed place on, and which features they are for."""
    stage, arrived = _ring(plan, refs, worker).claim(step)
    plgpu.copy_gmem_to_smem(refs.w.at[pl.ds(at, plan.batch)], refs.ws.at[worker, stage], arrived)
    plgpu.copy_gmem_to_smem(refs.features.at[pl.ds(at, IDS)], refs.ids.at[worker, stage], arrived)


# ---- Multiplying ----


def _multiply(plan: Plan, refs: Refs, group: Any, item: Any, step: Any) -> Any:
    """This group's bands of a share.

    Carried from band to band: the stage under way, the packed place where it begins, and where the band's columns do,
    which are read a band ahead, as memory is slow to answer.
    """
    panel, share = lax.div(item, plan.shares), lax.rem(item, plan.shares)
    first, last = _part(plan, share, group)
    columns = range(WIDE // plan.side + 1)
    known = lambda band: tuple(_start(plan, refs, band, column) for column in columns)

    def each(band, carried):
        now, begin, ends = carried
        following = known(band + 1)
        y = _total(plan, refs, group, now, begin, ends)
        _finish(plan, refs, group, panel, band, y)
        done = lax.div(ends[-1] - begin, plan.batch)
        return now + done, begin + done * plan.batch, following

    found = known(first)
    plgpu.barrier_wait(refs.loaded)
    now, begin, ends = lax.fori_loop(first, last, each, (step, found[0], found))
    pl.when(ends[0] > begin)(lambda: _release(_ring(plan, refs, group), now))
    plgpu.barrier_arrive(refs.done)
    return now + _stages(plan, ends[0] - begin)


def _total(
    plan: Plan, refs: Refs, group: Any, now: Any, begin: Any, ends: tuple[Any, ...]
) -> jax.Array:
    """float32 (64, 64): a band's sums. The first stage may hold blocks of bands before it, the last of bands behind."""
    ring, batch = _ring(plan, refs, group), plan.batch

    def summed(acc):
        def one(i, _):
            low, step = begin + i * batch, now + i
            pl.when(low >= ends[0])(lambda: _arrived(ring, step))
            _add(plan, refs, group, acc, lax.rem(step, plan.stages), [end - low for end in ends])
            plgpu.wgmma_wait(0)
            pl.when(low + batch <= ends[-1])(lambda: _release(ring, step))

        steps = jnp.where(ends[-1] > ends[0], _stages(plan, ends[-1] - begin), 0)
        lax.fori_loop(0, steps, one, None)
        return acc[...]

    return pl.run_scoped(summed, plgpu.ACC((TALL, WIDE), jnp.float32))


def _arrived(ring: Ring, step: Any) -> None:
    ring.filled(step)


def _release(ring: Ring, step: Any) -> None:
    # The threads have read the stage's features themselves, which copies are ordered behind by this alone.
    plgpu.commit_smem()
    ring.release(step)


def _add(plan: Plan, refs: Refs, group: Any, acc: Any, stage: Any, ends: list[Any]) -> None:
    """The products of a stage's blocks, each to its column of the band; `ends` counted from the stage's first block."""
    xs, ws, ids = refs.xs, refs.ws.at[group, stage], refs.ids.at[group, stage]

    def one(part, slot):
        w = ws.at[slot]
        plgpu.wgmma(part, xs.at[ids[slot]], w.transpose((1, 0)) if plan.turned else w)

    for column, (low, high) in enumerate(itertools.pairwise(ends)):
        part = acc.at[:, pl.ds(column * plan.side, plan.side)]
        add = lambda slot, _, part=part: one(part, slot)
        lax.fori_loop(jnp.maximum(low, 0), jnp.minimum(high, plan.batch), add, None)


def _finish(plan: Plan, refs: Refs, group: Any, panel: Any, band: Any, y: jax.Array) -> None:
    if plan.biased:
        y = y + lax.broadcast_in_dim(refs.offsets[pl.ds(band * WIDE, WIDE)], y.shape, (1,))
    y = ACTIVATIONS[plan.activation](y).astype(refs.y.dtype)
    hold(y, refs.ys.at[group])
    there = refs.y.at[pl.ds(panel * TALL, TALL), pl.ds(band * WIDE, WIDE)]
    plgpu.copy_smem_to_gmem(refs.ys.at[group], there)
