"""The panel's kernel at work: four groups sum a band of 64 columns of y each, a fifth copies what they need.

A program takes a share of the columns of a panel of x at a time. Each group has bands and a ring of its own, so that none
waits for another; the weights of a band lie together where columns are packed one after the other.
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
from sparsity.kernels.gpu_ring import Launch, Ring, store, total
from sparsity.kernels.gpu_shares import IDS, TALL, WIDE, WORKERS


class Plan(NamedTuple):
    """Static facts of a launch.

    side:     of the blocks. blocks: of features in a panel. columns: of blocks. bands: of 64 columns.
    panels:   of 64 rows of x. shares: of the bands, every `shares`-th one.
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

    @property
    def rounds(self) -> int:
        """Bands of a group in a share, at most."""
        return -(-self.bands // (self.shares * WORKERS))


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


def _band(plan: Plan, share: Any, turn: Any, worker: Any) -> Any:
    """The group's band of a round; beyond the last one there is none."""
    return (turn * WORKERS + worker) * plan.shares + share


def _bounds(plan: Plan, refs: Refs, band: Any, columns: tuple[int, ...]) -> tuple[Any, ...]:
    """Where these columns of a band begin in the packed blocks."""
    inside = WIDE // plan.side
    return tuple(refs.starts[jnp.minimum(band * inside + c, plan.columns)] for c in columns)


# ---- Copying ----


def _copy(plan: Plan, refs: Refs, item: Any, steps: tuple[Any, ...]) -> tuple[Any, ...]:
    """The panel, once the one before is not read any more, and the weights of its share, round by round."""
    panel, share = lax.div(item, plan.shares), lax.rem(item, plan.shares)
    plgpu.barrier_wait(refs.done)
    rows = pl.ds(panel * TALL, TALL)

    def one(block, _):
        features = pl.ds(block * plan.side, plan.side)
        plgpu.copy_gmem_to_smem(refs.x.at[rows, features], refs.xs.at[block], refs.loaded)

    lax.fori_loop(0, plan.blocks, one, None)
    known = functools.partial(_ends, plan, refs, share)

    def each(turn, carried):
        steps, found = carried
        following = known(turn + 1)
        return _copy_round(plan, refs, found, steps), following

    return lax.fori_loop(0, plan.rounds, each, (steps, known(0)))[0]


def _ends(plan: Plan, refs: Refs, share: Any, turn: Any) -> tuple[tuple[Any, ...], ...]:
    """Where each group's band of a round begins and ends; read a round ahead, as memory is slow to answer."""
    ends = 0, WIDE // plan.side
    bands = [_band(plan, share, turn, worker) for worker in range(WORKERS)]
    return tuple(_bounds(plan, refs, band, ends) for band in bands)


def _copy_round(plan: Plan, refs: Refs, found: Any, steps: tuple[Any, ...]) -> tuple[Any, ...]:
    """The weights of a band for each group, in turn, so that all groups are fed alike."""
    lengths = [_stages(plan, end - first) for first, end in found]

    def one(i, _):
        for worker, (first, _end) in enumerate(found):
            at, step = first + i * plan.batch, steps[worker] + i
            copy = functools.partial(_copy_stage, plan, refs, worker, at, step)
            pl.when(i < lengths[worker])(copy)

    lax.fori_loop(0, functools.reduce(jnp.maximum, lengths), one, None)
    return tuple(step + length for step, length in zip(steps, lengths, strict=True))


def _stages(plan: Plan, blocks: Any) -> Any:
    return lax.div(blocks + plan.batch - 1, plan.batch)


def _copy_stage(plan: Plan, refs: Refs, worker: int, at: Any, step: Any) -> None:
    """The weights of a stage from a packed place on, and which features they are for."""
    stage, arrived = _ring(plan, refs, worker).claim(step)
    plgpu.copy_gmem_to_smem(refs.w.at[pl.ds(at, plan.batch)], refs.ws.at[worker, stage], arrived)
    plgpu.copy_gmem_to_smem(refs.features.at[pl.ds(at, IDS)], refs.ids.at[worker, stage], arrived)


# ---- Multiplying ----


def _multiply(plan: Plan, refs: Refs, group: Any, item: Any, step: Any) -> Any:
    """This group's bands of a share."""
    panel, share = lax.div(item, plan.shares), lax.rem(item, plan.shares)
    columns = tuple(range(WIDE // plan.side + 1))
    known = lambda turn: _bounds(plan, refs, _band(plan, share, turn, group), columns)
    plgpu.barrier_wait(refs.loaded)

    def each(turn, carried):
        step, ends = carried
        following, band = known(turn + 1), _band(plan, share, turn, group)
        y = _total(plan, refs, group, ends, step)
        pl.when(band < plan.bands)(lambda: _finish(plan, refs, group, panel, band, y))
        return step + _stages(plan, ends[-1] - ends[0]), following

    step = lax.fori_loop(0, plan.rounds, each, (step, known(0)))[0]
    plgpu.barrier_arrive(refs.done)
    return step


def _total(plan: Plan, refs: Refs, group: Any, ends: tuple[Any, ...], step: Any) -> jax.Array:
    """float32 (64, 64): a band's sums."""

    def add(acc, stage, i):
        first = ends[0] + i * plan.batch
        for column, (low, high) in enumerate(itertools.pairwise(ends)):
            part = acc.at[:, pl.ds(column * plan.side, plan.side)]
            one = lambda at, _, part=part: _add(plan, refs, group, part, stage, at - first)
            low, high = jnp.maximum(low, first), jnp.minimum(high, first + plan.batch)
            lax.fori_loop(low, high, one, None)

    steps = _stages(plan, ends[-1] - ends[0])
    return total((TALL, WIDE), steps, step, _ring(plan, refs, group), add)


def _add(plan: Plan, refs: Refs, group: Any, acc: Any, stage: Any, slot: Any) -> None:
    """The product of one of a stage's blocks, to its column of the band."""
    x, w = refs.xs.at[refs.ids[group, stage, slot]], refs.ws.at[group, stage, slot]
    plgpu.wgmma(acc, x, w.transpose((1, 0)) if plan.turned else w)


def _finish(plan: Plan, refs: Refs, group: Any, panel: Any, band: Any, y: jax.Array) -> None:
    if plan.biased:
        y = y + lax.broadcast_in_dim(refs.offsets[pl.ds(band * WIDE, WIDE)], y.shape, (1,))
    y = ACTIVATIONS[plan.activation](y).astype(refs.y.dtype)
    store(y, refs.ys.at[group], refs.y, (panel * TALL, band * WIDE))
