"""What is due before each step, and what is in force while it runs: functions of the plan and the step alone."""

import collections
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np

from sparsity.contract import Context
from sparsity.plan.phases import Kind, Phase, Plan, Tick, share_at, starts, walk
from sparsity.target import context_of
from sparsity.train import execution
from sparsity.train.engaged import Ways
from sparsity.train.run import Run
from sparsity.train.step import Span


class Force(NamedTuple):
    """What is in force while a step runs: its phase, and the counts, span and ways that come of it."""

    phase: Phase
    context: Context
    span: Span
    ways: Ways


# What may be due before a step. The plan's ticks stand behind SAVE and before CONCLUDE, each behind its
# RESTART or BURY and before its SETTLE: every act takes the state once, so that between two acts it can be
# saved.
LOG, EVALUATE, SAVE, CONCLUDE = "log", "evaluate", "save", "conclude"
RESTART, BURY, SETTLE = "restart", "bury", "settle"


def compilations(run: Run) -> list[tuple[Any, ...]]:
    """The keys of the programs that the run will compile, in order (see Programs.compilations)."""
    total, keys = starts(run.plan)[-1], {}
    ticks = collections.defaultdict(list)
    for tick in walk(run.plan):
        ticks[tick.step].append(tick)
    now = resumed(run, 0)
    for step in range(total + 1):
        for act in due(run, step, total, ticks[step]):
            if isinstance(act, Tick):
                now = force(run, act)
            keys |= dict.fromkeys(_keys(run, act, now.phase))
        if step < total:
            keys |= dict.fromkeys(_step_keys(now))
    return list(keys)


def _step_keys(now: Force) -> Iterator[tuple[Any, ...]]:
    """Programs that steps are run by. What is engaged is released before the next phase, at the latest."""
    phase, ways = now.phase, now.ways
    if ways.layers:
        yield "engage", str(phase.kind), ways
    yield "train", str(phase.kind), phase.frozen, phase.dead, ways
    if ways.layers:
        yield "release", ways


def _keys(run: Run, act: Any, phase: Phase) -> Iterator[tuple[Any, ...]]:
    kind = str(phase.kind)
    if act in (EVALUATE, CONCLUDE):
        yield "evaluate", kind
    if act == RESTART:
        yield ("restart",)
    if act == BURY:
        yield "bury", kind
    if isinstance(act, Tick) and act.select:
        if run.programs.method.needs.batches:
            yield "signals", kind
        yield "tick", kind, phase.reset == "zeroed", phase.dead
    if act == SETTLE:
        yield "settle", kind


def due(run: Run, step: int, total: int, ticks: list[Tick]) -> Iterator[Any]:
    """The acts before a step, in order: a function of the step alone."""
    between, every = 0 < step < total, run.every
    if step and (step == total or _falls(step, every.log)):
        yield LOG
    if between and _falls(step, every.evaluate):
        yield EVALUATE
    if between and _falls(step, every.save):
        yield SAVE
    for tick in ticks:
        if tick.event == "enter" and run.plan[tick.index].reset == "restarted":
            yield RESTART
        if _buries(run.plan, tick):
            yield BURY
        yield tick
        if tick.select and run.settle:
            yield SETTLE
    if step == total:
        yield CONCLUDE


def _falls(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _buries(plan: Plan, tick: Tick) -> bool:
    """Whether dead weights that were kept are zeroed from here on, under masks that stay.

    Where masks are chosen anew, choosing them buries.
    """
    if tick.event != "enter" or tick.select or tick.index == 0:
        return False
    before, phase = plan[tick.index - 1 : tick.index + 1]
    return phase.kind != Kind.DENSE and (before.dead, phase.dead) == ("kept", "zeroed")


def force(run: Run, tick: Tick) -> Force:
    """What is in force from a tick on."""
    return _force(run, tick.index, tick.share, tick.regrow)


def resumed(run: Run, step: int) -> Force:
    """What is in force before the acts of `step`: what the step before it ran under."""
    before = max(0, step - 1)
    index = next(i for i, edge in enumerate(starts(run.plan)[1:]) if before < edge)
    return _force(run, index, share_at(run.plan, before))


def entered(run: Run, index: int) -> Force:
    """What is in force in the first step of a phase."""
    return _force(run, index, run.plan[index].shares[0])


def _force(run: Run, index: int, share: Fraction, regrow: bool = True) -> Force:
    phase = run.plan[index]
    context = context_of(run.target, phase, share, regrow)
    ways = execution.ways(run.programs.execution, run.target, run.plan, index)
    return Force(phase, context, _span(run.plan, index), ways)


def _span(plan: Plan, index: int) -> Span:
    start, lr = starts(plan)[index], plan[index].lr
    return jax.device_put(Span(np.int32(start), np.int32(plan[index].length), np.float32(lr)))
