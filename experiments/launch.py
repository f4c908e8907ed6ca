"""Runs a config in a directory, to its end: from the start, or from where an earlier launch has come.

The numbers that a run leaves behind depend on its config, the versions, the device kind and the core
count; never on how often it was stopped, or by what.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import evaluate
from experiments.assemble import Experiment, assemble, feed
from experiments.executed import told
from experiments.preemption import Preempted, Stop
from experiments.progress import Pace, Progress
from experiments.surroundings import moved, surroundings
from experiments.tensorboard import Events
from experiments.workdir import Workdir, claimed, differences, in_use, read, refuse_other, write
from sparsity.contract import Context
from sparsity.surgery import export
from sparsity.target import final_context
from sparsity.train import checkpoint, log
from sparsity.train.descent import Held
from sparsity.train.loop import Diverged, Every, Place, Record, Run, fit, released
from sparsity.train.state import TrainState, trained
from sparsity.units.blocks import cells, table
from sparsity.units.partition import leaves


class Session(NamedTuple):
    """How a launch talks and listens; none of it changes what the run leaves behind.

    say:      takes lines for the user.
    stop:     a request to end.
    progress: whether the terminal shows how the run gets on.
    events:   whether TensorBoard's files are written.
    profile:  (first, behind the last) step to profile; () for none.
    heard:    is told each record of the metrics, once it is written.
    """

    say: Callable[[str], None] = print
    stop: Stop | None = None
    progress: bool = False
    events: bool = False
    profile: tuple[int, int] | tuple[()] = ()
    heard: Callable[[Record], None] = lambda record: None


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
        with _status(here, session):
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


@contextlib.contextmanager
def _status(here: Workdir, session: Session) -> Iterator[None]:
    """Keeps the directory's status file true."""
    set_status(here, "running")
    try:
        yield
    except BaseException as error:
        word, cause = _word(error)
        try:
            set_status(here, word, cause)
        except OSError as second:
            session.say(f"the status could not be written: {second}")
        raise
    set_status(here, "done")


def _word(error: BaseException) -> tuple[str, str]:
    if isinstance(error, Diverged):
        return "diverged", str(error)
    if isinstance(error, Preempted | KeyboardInterrupt):
        return "preempted", str(error) or "interrupted"
    return "failed", f"{type(error).__name__}: {error}"


def set_status(here: Workdir, word: str, cause: str = "") -> None:
    """Writes how the run stands, and under what it runs."""
    write(here.status, {"status": word, "cause": cause, **surroundings()})


class _Ledger:
    """What a run has left so far: it saves states with what is needed to go on from them."""

    def __init__(self, experiment: Experiment, here: Workdir, session: Session) -> None:
        self._config, self._here, self._session = experiment.config, here, session
        self._began = time.monotonic()
        self._now: tuple[Place, Held, int] | None = None
        self._programs = experiment.shared.programs

    def restore(self, fresh: TrainState) -> tuple[TrainState, int]:
        """The newest intact checkpoint's state, with the acts that were done there; else the fresh one."""
        here, say = self._here, self._session.say
        state, extra, notes = fresh, {}, []
        checkpoint.recover(here.checkpoints)
        if checkpoint.latest(here.checkpoints) is not None:
            state, extra, notes = checkpoint.restore(here.checkpoints, fresh)
            _refuse_foreign(extra, self._config, here)
        for note in notes:
            say(note)
        if extra:
            say(f"{here.path}: going on from step {int(state.step)}")
            if changed := moved(extra["surroundings"], surroundings()):
                say(
                    f"not what it ran on before, so its last bits may come out otherwise: {changed}"
                )
            was, now = extra["config"].get("execution", "masked"), self._config["execution"]
            if was != now:
                say(f"execution {was} then and {now} now: its last bits come out otherwise")
        size = extra.get("metrics", 0)
        held = here.metrics.stat().st_size if here.metrics.exists() else 0
        if held < size:
            say(f"{here.metrics} has lost its end: {held} bytes of {size} are there")
        self.lines = log.Lines(here.metrics, size)
        self._began -= extra.get("seconds", 0.0)
        return state, extra.get("acts", 0)

    def at(self, place: Place, held: Held) -> None:
        """The run has come to a place; nothing is written."""
        self._now = place, held, self.lines.size

    def save_now(self) -> None:
        """A checkpoint of where the run has last been."""
        if self._now:
            self._save(*self._now)

    def save(self, place: Place, state: TrainState) -> None:
        """A checkpoint of the state at a place."""
        self._save(place, state, self.lines.size)

    def _save(self, place: Place, held: Held, metrics: int) -> None:
        state = released(self._programs, held)
        _refuse_nonfinite(state)
        self.lines.sync()
        extra = {
            "acts": place.acts,
            "metrics": metrics,
            "seconds": self.seconds(),
            "config": self._config,
            "surroundings": surroundings(),
        }
        checkpoint.save(self._here.checkpoints, place.step, state, extra)

    def rescue(self) -> None:
        """Saves what can be saved of a run that does not answer, and writes why it ended."""
        if self._here.summary.exists():
            set_status(self._here, "done")
            return
        stop = self._session.stop
        cause = stop.reason if stop else ""
        try:
            self.save_now()
        # The step in flight may have taken the arrays (RuntimeError), or the disk be full.
        except (RuntimeError, OSError, Diverged) as error:
            first = str(error).splitlines()[0]
            cause += f"; goes on from the last checkpoint, as this place was not saved: {first}"
        with contextlib.suppress(OSError):
            set_status(self._here, "preempted", cause)

    def seconds(self) -> float:
        """Of this launch and of those before it, up to the checkpoints that were gone on from."""
        return round(time.monotonic() - self._began, 2)


def _run(experiment: Experiment, here: Workdir, session: Session) -> dict[str, Any]:
    config, made = experiment.config, experiment.shared.programs
    stop, ledger = session.stop or Stop(), _Ledger(experiment, here, session)
    stop.rescue = ledger.rescue
    stop.check()
    fresh = experiment.placement.put(made.create(jax.random.key(config["seed"]), experiment.inputs))
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
        profile = _Profile(here, session.profile)
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


class _Profile:
    """A profile of a stretch of steps."""

    def __init__(self, here: Workdir, steps: tuple[int, int] | tuple[()]) -> None:
        self._folder, self._steps, self._on = here.profile, steps, False

    def at(self, place: Place, state: Held) -> None:
        """Begins and ends where its steps do."""
        inside = bool(self._steps) and self._steps[0] <= place.step < self._steps[-1]
        if inside == self._on:
            return
        jax.block_until_ready(state)
        if inside:
            jax.profiler.start_trace(str(self._folder))
        else:
            jax.profiler.stop_trace()
        self._on = inside

    def close(self) -> None:
        """Ends a profile that is under way."""
        if self._on:
            jax.profiler.stop_trace()


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


# What a launch saves beside a state.
EXTRA = {"acts": int, "metrics": int, "seconds": float, "config": dict, "surroundings": dict}


def _refuse_foreign(extra: Mapping[str, Any], config: Mapping[str, Any], here: Workdir) -> None:
    lacking = [name for name, kind in EXTRA.items() if not isinstance(extra.get(name), kind)]
    if lacking:
        raise ValueError(
            f"the checkpoint in {here.checkpoints} was not saved by a launch: it lacks {lacking[0]}"
        )
    if lines := differences(extra["config"], config):
        listed = "\n  ".join(lines)
        raise ValueError(
            f"the checkpoint in {here.checkpoints} belongs to another config; put it back where it came "
            f"from, or ask for:\n  {listed}"
        )


def _refuse_nonfinite(state: TrainState) -> None:
    """Keeps NaNs out of the checkpoints, so that the last one is good."""
    tree = jax.device_get(trained(state.wrapped))
    bad = [path for path, leaf in leaves(tree).items() if not np.isfinite(leaf).all()]
    if bad:
        raise Diverged(f"not finite at step {int(state.step)}: {', '.join(bad)}")


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as it comes back from its file."""
    try:
        return json.loads(json.dumps(config))
    except TypeError as error:
        raise ValueError(f"a config is plain data, as in JSON: {error}") from None
