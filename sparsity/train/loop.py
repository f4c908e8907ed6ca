"""The host loop: steps, and between them what a plan asks for.

It has no state but the run's: from the same TrainState at the same place it goes the same way, so a resumed
run ends as the one that was never stopped. What it does before a step (log, evaluate, save, act on a tick)
depends on the step alone.
"""

import collections
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from sparsity.contract import Context, Signals
from sparsity.plan.phases import Kind, Phase, Plan, Tick, share_at, starts, walk
from sparsity.target import Target, context_of
from sparsity.train.state import TrainState
from sparsity.train.step import Programs, Span

Record = dict[str, Any]


class Diverged(Exception):
    """The loss or a trained number is no longer finite; says where and when."""


class Every(NamedTuple):
    """Steps between logged means, evaluations and saves; 0 is never (but at the end)."""

    log: int = 100
    evaluate: int = 0
    save: int = 0


class Place(NamedTuple):
    """Where a run stands: before the step `step`, with the first `acts` of what is due there done."""

    step: int
    acts: int = 0


class Run(NamedTuple):
    """A run's surroundings, as functions.

    source:   (step, batches=1) -> what the programs draw the batches of that many steps from (device
              arrays).
    evaluate: (state, context) -> {"loss": ..., "accuracy": ...}.
    emit:     takes each record of the metrics.
    save:     takes the place and its state.
    watch:    takes the place and its state before each act and each step; may raise to end the run there.
    settle:   batches that recompute the batch statistics after a mask change; 0 leaves them.
    """

    programs: Programs
    plan: Plan
    target: Target
    source: Callable[..., Any]
    evaluate: Callable[[TrainState, Context], Record]
    emit: Callable[[Record], None] = lambda record: None
    save: Callable[[Place, TrainState], None] = lambda place, state: None
    watch: Callable[[Place, TrainState], None] = lambda place, state: None
    every: Every = Every()
    settle: int = 0


class Force(NamedTuple):
    """What is in force while a step runs: its phase, with the counts and the span that come of it."""

    phase: Phase
    context: Context
    span: Span


# What may be due before a step. The plan's ticks stand behind SAVE and before CONCLUDE, each behind its
# RESTART or BURY and before its SETTLE: every act takes the state once, so that between two acts it can be
# saved.
LOG, EVALUATE, SAVE, CONCLUDE = "log", "evaluate", "save", "conclude"
RESTART, BURY, SETTLE = "restart", "bury", "settle"


def fit(run: Run, state: TrainState, acts: int = 0) -> TrainState:
    """Runs the plan to its end, from the state's step with the first `acts` of its acts done.

    Raises Diverged, before a mask is chosen from or a record written of numbers that are not finite.
    """
    step, total = int(state.step), starts(run.plan)[-1]
    ticks: dict[int, list[Tick]] = collections.defaultdict(list)
    for tick in walk(run.plan, step):
        ticks[tick.step].append(tick)
    force = _resumed(run, step)
    while True:
        due = [*_due(run, step, total, ticks[step])]
        for place, act in enumerate(due):
            if isinstance(act, Tick):
                force = _force(run, act)
            if place >= acts:
                run.watch(Place(step, place), state)
                state = _act(run, state, act, Place(step, place + 1), force)
        if step == total:
            return state
        run.watch(Place(step, len(due)), state)
        phase = force.phase
        state = run.programs.train(
            state, run.source(step), force.context, force.span, frozen=phase.frozen, dead=phase.dead
        )
        step, acts = step + 1, 0


def compilations(run: Run) -> list[tuple[Any, ...]]:
    """The keys of the programs that the run will compile, in order (see Programs.compilations)."""
    total, keys = starts(run.plan)[-1], {}
    ticks = collections.defaultdict(list)
    for tick in walk(run.plan):
        ticks[tick.step].append(tick)
    force = _resumed(run, 0)
    for step in range(total + 1):
        for act in _due(run, step, total, ticks[step]):
            if isinstance(act, Tick):
                force = _force(run, act)
            keys |= dict.fromkeys(_keys(run, act, force.phase))
        if step < total:
            keys["train", str(force.phase.kind), force.phase.frozen, force.phase.dead] = None
    return list(keys)


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


def _due(run: Run, step: int, total: int, ticks: list[Tick]) -> Iterator[Any]:
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


def _act(run: Run, state: TrainState, act: Any, after: Place, force: Force) -> TrainState:
    if isinstance(act, Tick):
        return _tick(run, state, act, force)
    if act == LOG:
        return _log(run, state, after.step, force)
    if act == RESTART:
        return run.programs.restart(state)
    if act == BURY:
        return run.programs.bury(state, force.context)
    if act == SETTLE:
        source = run.source(_looked_at(run, after.step), run.settle)
        return run.programs.settle(state, source, force.context, batches=run.settle)
    if act == SAVE:
        run.save(after, state)
    else:
        scores = run.evaluate(state, force.context)
        run.emit({"event": "eval", "step": after.step, **scores})
    return state


def _tick(run: Run, state: TrainState, tick: Tick, force: Force) -> TrainState:
    report: Any = {}
    if tick.select:
        state, report = _choose(run, state, tick, force.context, force.phase)
    run.emit(_tick_record(tick, force.phase, report))
    return state


def _buries(plan: Plan, tick: Tick) -> bool:
    """Whether dead weights that were kept are zeroed from here on, under masks that stay.

    Where masks are chosen anew, choosing them buries.
    """
    if tick.event != "enter" or tick.select or tick.index == 0:
        return False
    before, phase = plan[tick.index - 1 : tick.index + 1]
    return phase.kind != Kind.DENSE and (before.dead, phase.dead) == ("kept", "zeroed")


def _force(run: Run, tick: Tick) -> Force:
    phase = run.plan[tick.index]
    context = context_of(run.target, phase, tick.share, tick.regrow)
    return Force(phase, context, _span(run.plan, tick.index))


def _choose(
    run: Run, state: TrainState, tick: Tick, context: Context, phase: Phase
) -> tuple[TrainState, Any]:
    """New masks, and per group what changed."""
    signals, batches = Signals(), run.programs.method.needs.batches
    if batches:
        source = run.source(_looked_at(run, tick.step), batches)
        signals = run.programs.signals(state, source, context)
    state, report = run.programs.tick(
        state, context, signals, zero_moments=phase.reset == "zeroed", dead=phase.dead
    )
    report = jax.device_get(report)
    _refuse_nonfinite(report["finite"], tick.step)
    soft = report["multipliers"]
    return state, {name: {**now, **soft.get(name, {})} for name, now in report["masks"].items()}


def _looked_at(run: Run, step: int) -> int:
    """The step whose batch is looked at before `step`; behind the plan's last there is only the last."""
    return min(step, starts(run.plan)[-1] - 1)


def _resumed(run: Run, step: int) -> Force:
    """What is in force before the acts of `step`: what the step before it ran under."""
    before = max(0, step - 1)
    index = next(i for i, edge in enumerate(starts(run.plan)[1:]) if before < edge)
    context = context_of(run.target, run.plan[index], share_at(run.plan, before))
    return Force(run.plan[index], context, _span(run.plan, index))


def _span(plan: Plan, index: int) -> Span:
    start, lr = starts(plan)[index], plan[index].lr
    return jax.device_put(Span(np.int32(start), np.int32(plan[index].length), np.float32(lr)))


def _log(run: Run, state: TrainState, step: int, force: Force) -> TrainState:
    sums = {name: float(value) for name, value in jax.device_get(state.sums).items()}
    if not np.isfinite(sums["loss"] + sums["penalty"]):
        raise Diverged(
            f"the training loss is {sums['loss']} at step {step}, in a {force.phase.kind} phase"
        )
    units = {name: group.size for name, group in run.target.partition.items()}
    kept = {name: int(force.context.keep[name]) for name in units}
    run.emit(
        {
            "event": "train",
            "step": step,
            "phase": str(force.phase.kind),
            "density": sum(kept.values()) / max(1, sum(units.values())),
            "loss": sums["loss"] / sums["steps"],
            "penalty": sums["penalty"] / sums["steps"],
            "accuracy": sums["correct"] / sums["examples"],
        }
    )
    return run.programs.logged(state)


def _tick_record(tick: Tick, phase: Phase, report: Mapping[str, Mapping[str, Any]]) -> Record:
    return {
        "event": "tick",
        "step": tick.step,
        "phase": str(phase.kind),
        "at": tick.event,
        "share": float(tick.share),
        "selected": tick.select,
        "groups": {
            name: {key: value.item() for key, value in numbers.items()}
            for name, numbers in report.items()
        },
    }


def _refuse_nonfinite(finite: Mapping[str, Any], step: int) -> None:
    bad = [path for path, good in finite.items() if not good]
    if bad:
        raise Diverged(f"not finite at the tick before step {step}: {', '.join(bad)}")
