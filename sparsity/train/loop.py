"""The host loop: steps, and between them what a plan asks for.

It has no state but the run's: from the same TrainState at the same place it goes the same way, so a resumed
run ends as the one that was never stopped. What it does before a step (log, evaluate, save, act on a tick)
depends on the step alone.
"""

import collections
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from sparsity.contract import Context, Signals
from sparsity.plan.phases import Phase, Tick, starts, walk
from sparsity.train.agenda import (
    BURY,
    LOG,
    RESTART,
    SAVE,
    SETTLE,
    Force,
    compilations,
    due,
    force,
    resumed,
)
from sparsity.train.descent import Held
from sparsity.train.engaged import Engaged
from sparsity.train.run import Every, Place, Record, Run
from sparsity.train.state import TrainState
from sparsity.train.step import Programs

__all__ = ["Diverged", "Every", "Place", "Record", "Run", "compilations", "fit", "released"]


class Diverged(Exception):
    """The loss or a trained number is no longer finite; says where and when."""


def fit(run: Run, state: TrainState, acts: int = 0) -> TrainState:
    """Runs the plan to its end, from the state's step with the first `acts` of its acts done.

    Raises Diverged, before a mask is chosen from or a record written of numbers that are not finite.
    """
    step, total = int(state.step), starts(run.plan)[-1]
    ticks: dict[int, list[Tick]] = collections.defaultdict(list)
    for tick in walk(run.plan, step):
        ticks[tick.step].append(tick)
    now, held = resumed(run, step), state
    while True:
        acts_due = [*due(run, step, total, ticks[step])]
        for place, act in enumerate(acts_due):
            if isinstance(act, Tick):
                now = force(run, act)
            if place >= acts:
                run.watch(Place(step, place), held)
                held = _act(run, held, act, Place(step, place + 1), now)
        if step == total:
            return released(run.programs, held)
        held = _engaged(run, held, now)
        run.watch(Place(step, len(acts_due)), held)
        phase = now.phase
        held = run.programs.train(
            held, run.source(step), now.context, now.span, frozen=phase.frozen, dead=phase.dead
        )
        step, acts = step + 1, 0


def released(programs: Programs, held: Held) -> TrainState:
    """The state in dense storage, as it is saved and as all but steps take it."""
    return programs.release(held) if isinstance(held, Engaged) else held


def _engaged(run: Run, held: Held, now: Force) -> Held:
    """The state on the layouts of its masks, where the phase's steps run on live blocks."""
    if isinstance(held, Engaged) or not now.ways.layers:
        return held
    engaged = run.programs.engage(held, now.context, ways=now.ways)
    _refuse_others(engaged)
    return engaged


def _refuse_others(engaged: Engaged) -> None:
    """Masks of other counts than the plan's: a method that chooses by rules of its own."""
    live = jax.device_get({name: layout.count for name, layout in engaged.layouts.items()})
    for way in engaged.ways.layers:
        if live[way.group] > way.capacity:
            raise ValueError(
                f"the method keeps {live[way.group]} blocks of {way.group} where the plan says "
                f"{way.capacity}: run it with execution='masked'"
            )


def _act(run: Run, held: Held, act: Any, after: Place, force: Force) -> Held:
    if act == LOG:
        return _log(run, held, after.step, force)
    state = released(run.programs, held)
    if isinstance(act, Tick):
        return _tick(run, state, act, force)
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


def _log(run: Run, held: Held, step: int, force: Force) -> Held:
    state = held.state if isinstance(held, Engaged) else held
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
    return run.programs.logged(held)


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
