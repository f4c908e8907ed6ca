"""What a run has left so far, and the checkpoints from which a later launch goes on."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments.assembly.assemble import Experiment
from experiments.running.identity import differences, otherwise
from experiments.running.session import Session
from experiments.running.status import set_status
from experiments.running.workdir import Workdir
from experiments.surroundings import moved, surroundings
from sparsity.train import checkpoint, log, shelf
from sparsity.train.descent import Held
from sparsity.train.loop import Diverged, Place, released
from sparsity.train.state import TrainState, trained
from sparsity.units.partition import leaves

# What a launch saves beside a state.
EXTRA = {"acts": int, "metrics": int, "seconds": float, "config": dict, "surroundings": dict}


class Ledger:
    """What a run has left so far: it saves states with what is needed to go on from them."""

    def __init__(self, experiment: Experiment, here: Workdir, session: Session) -> None:
        self._config, self.here, self._session = experiment.config, here, session
        self._board = session.board
        self._began = time.monotonic()
        self._now: tuple[Place, Held, int] | None = None
        self._saved: Place | None = None
        self._programs = experiment.shared.programs

    def restore(self, fresh: TrainState) -> tuple[TrainState, int]:
        """The newest intact checkpoint's state, with the acts that were done there; else the fresh one."""
        here, say = self.here, self._session.say
        state, extra, notes = fresh, {}, []
        if self._board.told("saved before", self._set_right):
            state, extra, notes = checkpoint.restore(here.checkpoints, fresh, board=self._board)
            _refuse_foreign(extra, self._config, here)
        for note in notes:
            say(note)
        if extra:
            say(f"{here.path}: going on from step {int(state.step)}")
            if changed := moved(extra["surroundings"], surroundings()):
                say(
                    f"not what it ran on before, so its last bits may come out otherwise: {changed}"
                )
            for line in otherwise(extra["config"], self._config):
                say(line)
        size = extra.get("metrics", 0)
        self.lines: Any = self._lines(size) if here.ours else log.Unwritten()
        self._began -= extra.get("seconds", 0.0)
        return state, extra.get("acts", 0)

    def _set_right(self) -> bool:
        """Whether there is a checkpoint, once what a kill has left is out of the way."""
        shelf.recover(self.here.checkpoints)
        return checkpoint.latest(self.here.checkpoints) is not None

    def _lines(self, size: int) -> log.Lines:
        """The metrics, cut back to what the checkpoint knows of."""
        metrics = self.here.metrics
        held = metrics.stat().st_size if metrics.exists() else 0
        if held < size:
            self._session.say(f"{metrics} has lost its end: {held} bytes of {size} are there")
        return log.Lines(metrics, size)

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
        checkpoint.save(self.here.checkpoints, place.step, state, extra, board=self._board)
        self._saved = place

    def rescue(self) -> None:
        """Saves what can be saved of a run that does not answer, and writes why it ended."""
        if self.here.summary.exists():
            set_status(self.here, "done")
            return
        stop = self._session.stop
        cause = stop.reason if stop else ""
        try:
            self._save_alone()
        # The step in flight may have taken the arrays (RuntimeError), or the disk be full.
        except (RuntimeError, OSError, Diverged) as error:
            first = str(error).splitlines()[0]
            cause += f"; goes on from the last checkpoint, as this place was not saved: {first}"
        with contextlib.suppress(OSError):
            set_status(self.here, "preempted", cause)

    def _save_alone(self) -> None:
        if self._board.count == 1:
            self.save_now()
        elif not self._now or self._saved != self._now[0]:
            raise RuntimeError("the other processes may be elsewhere")

    def fail(self, words: str) -> None:
        """Writes that another process has ended the run, and why."""
        with contextlib.suppress(OSError):
            set_status(self.here, "failed", words)

    def seconds(self) -> float:
        """Of this launch and of those before it, up to the checkpoints that were gone on from."""
        return round(time.monotonic() - self._began, 2)


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
    found = leaves(trained(state.wrapped))
    bad = [path for path, leaf in found.items() if not all(map(_finite, _parts(leaf)))]
    if bad:
        raise Diverged(f"not finite at step {int(state.step)}: {', '.join(bad)}")


def _finite(part: Any) -> bool:
    return bool(np.isfinite(jax.device_get(part)).all())


def _parts(leaf: jax.Array) -> list[Any]:
    """What this process holds of an array, each entry once."""
    return [*{str(shard.index): shard.data for shard in leaf.addressable_shards}.values()]
