"""Kills a run again and again, each time within a window that it was seen to be in.

A kill counts for the window that the process had entered and not left when it was dead, whatever window
was aimed at. What dies before the launcher has begun (during the imports) counts for none.
"""

import collections
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import IO

import numpy as np

from experiments.running.workdir import Workdir
from sparsity.train import checkpoint
from tests.experiments.faults.processes import said, start

TRACED = pathlib.Path(__file__).with_name("traced.py")
FIRST = "before the first checkpoint"
IMPORTS = "during the imports"
# In the order of a run that is killed in each of them: it comes on by itself until the ending.
WINDOWS = (
    FIRST,
    "set-up",
    "compiling",
    "save",
    "restoring",
    "tick",
    "steps",
    "evaluation",
    "ending",
)
# How often a launch may pass a window before it is killed in it, where it passes it more than once.
PASSED = {"compiling": 5, "save": 2, "tick": 2, "steps": 2, "evaluation": 2}
TRIES = 6  # launches for each kill that is wanted


def cold(run: pathlib.Path) -> pathlib.Path:
    """The run's own cache, which kills have hit while it was written."""
    return run.with_name(f"{run.name}-cold")


class Trace:
    """The window that a process is in, by what it tells, and how long it was in those before."""

    def __init__(self, saved: bool) -> None:
        """saved: whether the run has a checkpoint already."""
        self.now, self.lasted = IMPORTS, collections.defaultdict(list)
        self._open, self._saved, self._since = [IMPORTS], saved, 0

    def hear(self, line: bytes) -> bool:
        """Whether the process has come to another window."""
        stamp, what, window = line.decode().split()
        if what == "enter":
            self._open.append(window)
        elif window in self._open:  # and with it those in it
            del self._open[self._open.index(window) :]
        self._saved |= (what, window) == ("leave", "save")
        before, self.now = self.now, self._named(self._open[-1])
        if before == self.now:
            return False
        self.lasted[before].append((int(stamp) - self._since) / 1e9)
        self._since = int(stamp)
        return True

    def _named(self, window: str) -> str:
        early = not self._saved and window in ("steps", "tick", "evaluation")
        return FIRST if early else window


class Hunt:
    """Launches that are killed. It learns how long a window lasts from those that it saw pass."""

    def __init__(self, given: Sequence[str], cache: pathlib.Path, seed: int) -> None:
        """given: flags of the run. cache: the folder of what is compiled."""
        self.kills: collections.Counter[str] = collections.Counter()
        self._given, self._cache = given, cache
        self._rng = np.random.default_rng(seed)
        self._lasted: dict[str, list[float]] = collections.defaultdict(lambda: [0.002])

    def kill(self, run: pathlib.Path, aims: Sequence[str]) -> list[str]:
        """Kills the run in each of the windows, in order, once.

        Returns the windows that are left because the run came to its end before.
        """
        for i, aim in enumerate(aims):
            before = self.kills[aim]
            for _ in range(TRIES):
                if not self._killed(run, aim):
                    return [*aims[i:]]
                if self.kills[aim] > before:
                    break
            else:
                raise AssertionError(f"no kill in the window {aim!r} in {TRIES} launches")
        return []

    def _killed(self, run: pathlib.Path, aim: str) -> bool:
        """One launch; whether it was killed and has not come to its end."""
        trace = Trace(checkpoint.latest(Workdir(run).checkpoints) is not None)
        here, there = os.pipe()
        # Where nothing was compiled before, compiling takes long, and kills hit the cache's writing.
        cache = cold(run) if aim == "compiling" else self._cache
        process = start(self._given, run, cache, (str(TRACED), str(there)), (there,))
        os.close(there)
        with open(here, "rb") as told:
            self._strike(process, told, trace, aim)
        code = process.wait()
        assert code in (0, -signal.SIGKILL), said(run).read_text()
        for window, seconds in trace.lasted.items():
            self._lasted[window] += seconds
        if code:
            self.kills[trace.now] += 1
        return code != 0

    def _strike(self, process: subprocess.Popen, told: IO[bytes], trace: Trace, aim: str) -> None:
        """Kills the process somewhere in the aim, one of the first times that it comes to it."""
        left = 1 + int(self._rng.integers(PASSED.get(aim, 1)))
        for line in told:
            left -= trace.hear(line) and trace.now == aim
            if not left:
                time.sleep(float(self._rng.choice(self._lasted[aim]) * self._rng.random()))
                process.kill()
                break
        for line in told:  # what it still said before it was dead
            trace.hear(line)
