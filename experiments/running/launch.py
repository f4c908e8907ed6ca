"""Runs a config in a directory, to its end: from the start, or from where an earlier launch has come.

The numbers that a run leaves behind depend on its config, the versions, the device kind and the core
count; never on how often it was stopped, or by what.
"""

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.assembly.assemble import Experiment, assemble, begun, feed
from experiments.assembly.executed import told
from experiments.running import evaluate
from experiments.running.ledger import Ledger
from experiments.running.preemption import Preempted, Stop
from experiments.running.profiles import Profile
from experiments.running.progress import Pace, Progress
from experiments.running.session import Session
from experiments.running.status import kept_status
from experiments.running.tensorboard import Events
from experiments.running.workdir import Workdir, claimed, in_use, read, refuse_other, write
from experiments.surroundings import surroundings
from sparsity.contract import Context
from sparsity.surgery import export
from sparsity.target import final_context
from sparsity.train import log
from sparsity.train.descent import Held
from sparsity.train.loop import Diverged, Every, Place, Record, Run, fit
from sparsity.train.state import TrainState
from sparsity.units.blocks import cells, table


def launch(
    config: Mapping[str, Any], workdir: Path, session: Session | None = None
) -> dict[str, Any]:
    """Runs a config (plain nested data) in a directory, to its end, and returns the run's summary.

    Raises ValueError before step 0 for a config that cannot run, and for a directory that is in use,
    belongs to another config, or holds a checkpoint of another; Diverged, recorded in the directory's
    status, where the numbers stop being finite, and again at once for a run that has diverged before;
    Preempted, its state saved, where it was asked to end; OSError where the disk gives out.
    """
    config, here, session = _plain(config), Workdir(workdir), session or Session()
    if (found := _finished(config, here, session)) is not None:
        return found
    experiment = assemble(config)
    with claimed(here):
        refuse_other(config, here)
        if (found := _finished(config, here, session)) is not None:
            return found
        write(here.config, config)
        write(here.resolved, _resolved(experiment))
        session.say(table(experiment.layers))
        for line in told(experiment.shared.programs.execution, experiment.target, experiment.plan):
            session.say(line)
        with kept_status(here, session):
            return _run(experiment, here, session)


def _finished(config: Mapping[str, Any], here: Workdir, session: Session) -> dict[str, Any] | None:
    """The summary of a run that is done; None where it is not."""
    if here.summary.exists():
        refuse_other(config, here)
        _end_status(here)
        session.say(f"{here.path}: done before, nothing to do")
        return read(here.summary)
    if here.status.exists() and read(here.status).get("status") == "diverged":
        refuse_other(config, here)
        cause = read(here.status).get("cause")
        raise Diverged(
            f"{here.path}: it has diverged before, and would again: {cause}\n"
            f"change the config and take another directory; or delete {here.status} to try once more"
        )
    return None


def _resolved(experiment: Experiment) -> dict[str, Any]:
    """What the config came to, for those who look at the run later."""
    per_epoch = experiment.sets.examples // experiment.config["batch"]
    return {"steps_per_epoch": per_epoch, "layers": cells(experiment.layers)}


def _end_status(here: Workdir) -> None:
    """Says "done" of a run that was killed between its summary and its status."""
    found = read(here.status) if here.status.exists() else {}
    if found.get("status") == "running" and not in_use(here):
        write(here.status, {**found, "status": "done", "cause": ""})


def _run(experiment: Experiment, here: Workdir, session: Session) -> dict[str, Any]:
    config, made = experiment.config, experiment.shared.programs
    stop, ledger = session.stop or Stop(), Ledger(experiment, here, session)
    stop.rescue = ledger.rescue
    stop.check()
    fresh = begun(experiment)
    state, acts = ledger.restore(fresh)
    del fresh
    start = int(state.step)
    with contextlib.ExitStack() as stack:
        stack.callback(ledger.lines.close)
        progress = Progress(experiment.plan, start) if session.progress else None
        events = (
            Events(here.events, start, _records(here, start, session.say))
            if session.events
            else None
        )
        profile = Profile(here, session.profile)
        for shown in (progress, events, profile):
            if shown:
                stack.callback(shown.close)
        pace = Pace()

        def emit(record: Record) -> None:
            ledger.lines.write(record)
            session.heard(record)
            if progress:
                progress.record(record)
            if events:
                events.write(record)
                if pace.speed and record["event"] == "train":
                    events.scalar("steps_per_second", pace.speed, record["step"])

        def save(place: Place, state: TrainState) -> None:
            with stop.busy:
                ledger.save(place, state)

        def watch(place: Place, state: Held) -> None:
            ledger.at(place, state)
            stop.check()
            if (pace.at(place, state) or place.acts) and progress:
                progress.at(place.step)
            profile.at(place, state)

        run = run_of(experiment, emit, save, watch, stop.check)
        stack.callback(getattr(run.source, "close", lambda: None))
        try:
            state = fit(run, state, acts)
            ledger.at(Place(config["steps"], LAST), state)
            context = final_context(experiment.target, experiment.plan)
            scores = run.evaluate(state, context)
            summary = evaluate.summary(experiment, state, context, scores)
            with stop.busy:
                stop.check()
                _export(experiment, here, state, context, summary)
                # What depends on how the run came to its end, and not on the run alone.
                summary["compilations"] = sum(made.compilations.values())
                summary["seconds"] = ledger.seconds()
                write(here.summary, summary)
        except Preempted:
            with stop.busy:
                ledger.save_now()
            raise
        return summary


def _records(here: Workdir, step: int, say: Callable[[str], None]) -> list[Record]:
    """What the metrics hold of a step; nothing, and it is said, where they are damaged."""
    try:
        return [record for record in log.read(here.metrics) if record["step"] == step]
    except ValueError as error:
        say(str(error))
        return []


# More acts than are due before any step: all of them are done.
LAST = 10**6


def run_of(
    experiment: Experiment,
    emit: Callable[[Record], None] = lambda record: None,
    save: Callable[[Place, TrainState], None] = lambda place, state: None,
    watch: Callable[[Place, Held], None] = lambda place, state: None,
    check: Callable[[], None] = lambda: None,
) -> Run:
    """The loop's surroundings for an experiment; `check` is called within an evaluation."""
    config = experiment.config
    return Run(
        programs=experiment.shared.programs,
        plan=experiment.plan,
        target=experiment.target,
        source=feed(experiment),
        evaluate=evaluate.evaluation(experiment, check),
        emit=emit,
        save=save,
        watch=watch,
        every=Every(config["log_every"], config["evaluate_every"], config["save_every"]),
        settle=config["settle"],
    )


def _export(
    experiment: Experiment,
    here: Workdir,
    state: TrainState,
    context: Context,
    summary: Mapping[str, Any],
) -> None:
    """Writes the plain sparse model, with its masks and where it comes from."""
    folded = experiment.shared.fold(state.wrapped, context)
    export.write(
        here.path,
        {**folded, **state.mutable},
        partition=experiment.target.partition,
        masks=experiment.shared.programs.masks(state, context),
        layers=experiment.layers,
        provenance={"config": experiment.config, "summary": dict(summary), **surroundings()},
    )


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as it comes back from its file."""
    try:
        return json.loads(json.dumps(config))
    except TypeError as error:
        raise ValueError(f"a config is plain data, as in JSON: {error}") from None
