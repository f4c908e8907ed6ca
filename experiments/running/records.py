"""What is written and shown of a run while it goes on: metrics, TensorBoard, progress, a profile."""

import contextlib
from collections.abc import Callable
from typing import Any, Self

from experiments.assembly.assemble import Experiment
from experiments.running.profiles import Profile
from experiments.running.progress import Pace, Progress
from experiments.running.session import Session
from experiments.running.tensorboard import Events
from experiments.running.workdir import Workdir
from sparsity.train import log
from sparsity.train.descent import Held
from sparsity.train.loop import Place, Record


class Records:
    """Takes each record and each place of a run, to the end of the context.

    lines: where the records go. start: the step from which the run goes on.
    """

    def __init__(
        self, experiment: Experiment, here: Workdir, session: Session, lines: Any, start: int
    ) -> None:
        self._lines, self._heard, self._pace = lines, session.heard, Pace()
        self._progress = Progress(experiment.plan, start) if session.progress else None
        self._events = (
            Events(here.events, start, _kept(here, start, session.say)) if session.events else None
        )
        self._profile = Profile(here, session.profile)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        with contextlib.ExitStack() as stack:
            for shown in (self._lines, self._progress, self._events, self._profile):
                if shown:
                    stack.callback(shown.close)

    def emit(self, record: Record) -> None:
        """The run has made a record."""
        self._lines.write(record)
        self._heard(record)
        if self._progress:
            self._progress.record(record)
        if self._events:
            self._events.write(record)
            if self._pace.speed and record["event"] == "train":
                self._events.scalar("steps_per_second", self._pace.speed, record["step"])

    def at(self, place: Place, state: Held) -> None:
        """The run has come to a place."""
        if (self._pace.at(place, state) or place.acts) and self._progress:
            self._progress.at(place.step)
        self._profile.at(place, state)


def _kept(here: Workdir, step: int, say: Callable[[str], None]) -> list[Record]:
    """What the metrics hold of a step; nothing, and it is said, where they are damaged."""
    try:
        return [record for record in log.read(here.metrics) if record["step"] == step]
    except ValueError as error:
        say(str(error))
        return []
