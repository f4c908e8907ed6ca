"""Runs a config in a directory, to its end: from the start, or from where an earlier launch has come.

The numbers that a run leaves behind depend on its config, the versions, the device kind and the core
count; never on how often it was stopped, or by what.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.assembly.assemble import Experiment, assemble, begun, feed
from experiments.assembly.executed import told
from experiments.processes.gathering import whole
from experiments.running import evaluate
from experiments.running.ledger import Ledger
from experiments.running.preemption import Preempted, Stop
from experiments.running.records import Records
from experiments.running.session import Session
from experiments.running.status import kept_status
from experiments.running.workdir import Workdir, claimed, in_use, read, refuse_other
from experiments.surroundings import surroundings
from sparsity.contract import Context
from sparsity.surgery import export
from sparsity.target import final_context
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
    config, session = _plain(config), session or Session()
    board = session.board
    here = Workdir(workdir, ours=board.index == 0)
    found = board.told("finished before", lambda: _finished(config, here, session))
    if found is not None:
        return found
    experiment = assemble(config)
    with claimed(here):
        found = board.told("begun", lambda: _begin(experiment, here, session))
        if found is not None:
            return found
        with kept_status(here, session):
            return _run(experiment, here, session)


def _begin(experiment: Experiment, here: Workdir, session: Session) -> dict[str, Any] | None:
    """Writes down what is to be run, and says it; or gives the summary of a run that has just been done."""
    config = experiment.config
    refuse_other(config, here)
    if (found := _finished(config, here, session)) is not None:
        return found
    here.put(here.config, config)
    here.put(here.resolved, _resolved(experiment))
    session.say(table(experiment.layers))
    for line in told(experiment.shared.programs.execution, experiment.target, experiment.plan):
        session.say(line)
    return None


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
        here.put(here.status, {**found, "status": "done", "cause": ""})


def _run(experiment: Experiment, here: Workdir, session: Session) -> dict[str, Any]:
    stop, ledger = session.stop or Stop(), Ledger(experiment, here, session)
    stop.rescue, stop.ending = ledger.rescue, ledger.fail
    stop.check()
    state, acts = ledger.restore(begun(experiment))
    with Records(experiment, here, session, ledger.lines, int(state.step)) as records:
        run = _surrounded(experiment, ledger, records, stop)
        try:
            state = fit(run, state, acts)
            return _concluded(experiment, run, ledger, state, stop)
        except Preempted:
            with stop.busy:
                ledger.save_now()
            raise
        finally:
            getattr(run.source, "close", lambda: None)()


def _surrounded(experiment: Experiment, ledger: Ledger, records: Records, stop: Stop) -> Run:
    """The loop's surroundings in a launch."""

    def save(place: Place, state: TrainState) -> None:
        with stop.busy:
            ledger.save(place, state)

    def watch(place: Place, state: Held) -> None:
        ledger.at(place, state)
        stop.check()
        records.at(place, state)

    return run_of(experiment, records.emit, save, watch, stop.check)


def _concluded(
    experiment: Experiment, run: Run, ledger: Ledger, state: TrainState, stop: Stop
) -> dict[str, Any]:
    """Evaluates and exports what the run has come to, and returns its summary, which is written last."""
    ledger.at(Place(experiment.config["steps"], LAST), state)
    context = final_context(experiment.target, experiment.plan)
    scores = run.evaluate(state, context)
    summary = evaluate.summary(experiment, state, context, scores)
    with stop.busy:
        stop.check()
        _export(experiment, ledger.here, state, context, summary)
        # What depends on how the run came to its end, and not on the run alone.
        summary["compilations"] = sum(experiment.shared.programs.compilations.values())
        summary["seconds"] = ledger.seconds()
        ledger.here.put(ledger.here.summary, summary)
    return summary


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
    params = whole({**folded, **state.mutable})
    masks = whole(experiment.shared.programs.masks(state, context))
    if here.ours:
        export.write(
            here.path,
            params,
            partition=experiment.target.partition,
            masks=masks,
            layers=experiment.layers,
            provenance={"config": experiment.config, "summary": dict(summary), **surroundings()},
        )


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as it comes back from its file."""
    try:
        return json.loads(json.dumps(config))
    except TypeError as error:
        raise ValueError(f"a config is plain data, as in JSON: {error}") from None
