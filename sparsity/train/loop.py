"""The host loop: steps between ticks, and what a plan asks for at each tick.

It has no state but the run's: from the same TrainState it goes the same way, so a resumed run ends as the
one that was never stopped. What it does at a step (log, evaluate, save, act on a tick) depends on the
step alone.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from sparsity.contract import Context, Signals
from sparsity.plan.phases import Phase, Plan, Tick, share_at, starts, walk
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


class Run(NamedTuple):
    """A run's surroundings, as functions.

    source:   step -> what the programs draw the step's batch from (device arrays).
    evaluate: (state, context) -> {"loss": ..., "accuracy": ...}.
    emit:     takes each record of the metrics.
    save:     takes the state, at its step.
    settle:   batches that recompute the batch statistics after a mask change; 0 leaves them.
    """

    programs: Programs
    plan: Plan
    target: Target
    source: Callable[[int], Any]
    evaluate: Callable[[TrainState, Context], Record]
    emit: Callable[[Record], None] = lambda record: None
    save: Callable[[TrainState], None] = lambda state: None
    every: Every = Every()
    settle: int = 0


def fit(run: Run, state: TrainState) -> TrainState:
    """Runs the plan from the state's step to its end.

    Raises Diverged, before a mask is chosen from or a record written of numbers that are not finite.
    """
    step, total = int(state.step), starts(run.plan)[-1]
    ticks: dict[int, list[Tick]] = {}
    for tick in walk(run.plan, step):
        ticks.setdefault(tick.step, []).append(tick)
    context, span, phase = _resumed(run, step)
    while True:
        for tick in ticks.get(step, ()):
            state, context, span, phase = _act(run, state, tick)
        if step == total:
            break
        state = run.programs.train(
            state, run.source(step), context, span, frozen=phase.frozen, dead=phase.dead
        )
        step += 1
        if _due(step, run.every.log, total):
            state = _log(run, state, step, context, phase)
        if _due(step, run.every.evaluate, 0) and step < total:
            run.emit({"event": "eval", "step": step, **run.evaluate(state, context)})
        if _due(step, run.every.save, 0) and step < total:
            run.save(state)
    run.emit({"event": "eval", "step": step, **run.evaluate(state, context)})
    return state


def _act(run: Run, state: TrainState, tick: Tick) -> tuple[TrainState, Context, Span, Phase]:
    phase = run.plan[tick.index]
    context = context_of(run.target, phase, tick.share, tick.regrow)
    if tick.event == "enter" and phase.reset == "restarted":
        state = run.programs.restart(state)
    report: Any = {}
    if tick.select:
        state, report = _choose(run, state, tick, context, phase)
    run.emit(_tick_record(tick, phase, report))
    return state, context, _span(run.plan, tick.index), phase


def _choose(
    run: Run, state: TrainState, tick: Tick, context: Context, phase: Phase
) -> tuple[TrainState, Any]:
    """New masks, and per group what changed."""
    # The last tick of a plan lies behind its last batch: it looks at the one before.
    source = run.source(min(tick.step, starts(run.plan)[-1] - 1))
    signals = Signals()
    if run.programs.method.needs.batches:
        signals = run.programs.signals(state, source, context)
    state, report = run.programs.tick(
        state, context, signals, zero_moments=phase.reset == "zeroed", dead=phase.dead
    )
    report = jax.device_get(report)
    _refuse_nonfinite(report["finite"], tick.step)
    if run.settle:
        state = run.programs.settle(state, source, context, batches=run.settle)
    soft = report["multipliers"]
    return state, {name: {**now, **soft.get(name, {})} for name, now in report["masks"].items()}


def _resumed(run: Run, step: int) -> tuple[Context, Span, Phase]:
    """The context, span and phase in force before the ticks of `step`."""
    edges = starts(run.plan)
    index = next(i for i, edge in enumerate(edges[1:]) if step < edge or edge == edges[-1])
    phase = run.plan[index]
    context = context_of(run.target, phase, share_at(run.plan, step))
    return context, _span(run.plan, index), phase


def _span(plan: Plan, index: int) -> Span:
    start, lr = starts(plan)[index], plan[index].lr
    return jax.device_put(Span(np.int32(start), np.int32(plan[index].length), np.float32(lr)))


def _log(run: Run, state: TrainState, step: int, context: Context, phase: Phase) -> TrainState:
    sums = {name: float(value) for name, value in jax.device_get(state.sums).items()}
    if not np.isfinite(sums["loss"] + sums["penalty"]):
        raise Diverged(
            f"the training loss is {sums['loss']} at step {step}, in a {phase.kind} phase"
        )
    units = {name: group.size for name, group in run.target.partition.items()}
    kept = {name: int(context.keep[name]) for name in units}
    run.emit(
        {
            "event": "train",
            "step": step,
            "phase": str(phase.kind),
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


def _due(step: int, every: int, total: int) -> bool:
    return (every > 0 and step % every == 0) or step == total
