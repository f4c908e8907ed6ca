"""How a sweep gets on, on the terminal: a line per run that is under way, and one for the whole."""

import contextlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

from experiments.reporting import terminal
from experiments.running.workdir import Workdir
from experiments.sweeps.jobs import Job
from experiments.sweeps.points import said
from experiments.sweeps.pool import Outcome

SECONDS = 1.0  # between two pictures of the table
LINES = 30.0  # between two lines where the output is no terminal
WIDE = 60  # of what a run sets
TAIL = 1 << 16  # bytes of the metrics that are looked at


class Live:
    """A table that is drawn anew while the runs of a sweep go on; failures are printed above it."""

    def __init__(self, folder: Path, total: int) -> None:
        self._folder, self._total = folder, total
        self._running: dict[str, Job] = {}
        self._done, self._failed, self._drawn = 0, 0, 0
        self._began, self._stop, self._lock = time.monotonic(), threading.Event(), threading.Lock()
        self._shown = sys.stderr.isatty()
        self._thread = threading.Thread(target=self._draw_on, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        with self._lock:
            self._print([self.line()])

    def begun(self, job: Job) -> None:
        """A run has started."""
        with self._lock:
            self._running[job.name] = job

    def ended(self, outcome: Outcome) -> None:
        """A run has ended; a cause is said at once."""
        with self._lock:
            self._running.pop(outcome.job.name, None)
            self._done += 1
            self._failed += bool(outcome.cause)
            if outcome.cause:
                self._print([f"{outcome.job.name}: {outcome.cause}"])
                self._drawn = 0

    def line(self) -> str:
        """The whole in a line."""
        seconds = time.monotonic() - self._began
        left = (self._total - self._done) * seconds / max(1, self._done)
        words = f"{self._done} of {self._total} runs ended, {self._failed} of them failed"
        rest = f", about {left / 60:.0f} min left" if self._done and left >= 60 else ""
        return f"{words}, {seconds / 60:.1f} min{rest}"

    def table(self) -> list[str]:
        """A row per run under way: its name, what it sets, its step, phase and loss."""
        rows = [row(name, job, self._folder / name) for name, job in self._running.items()]
        return terminal.table([("run", "sets", "step", "phase", "loss"), *rows], left=2)

    def _draw_on(self) -> None:
        while not self._stop.wait(SECONDS if self._shown else LINES):
            with self._lock:
                self._print([*self.table(), self.line()] if self._shown else [self.line()])

    def _print(self, lines: list[str]) -> None:
        """Lines in place of those that were drawn last."""
        back = f"\x1b[{self._drawn}A\x1b[J" if self._shown and self._drawn else ""
        print(back + "\n".join(map(terminal.plain, lines)), file=sys.stderr, flush=True)
        self._drawn = len(lines)


def row(name: str, job: Job, folder: Path) -> tuple[str, str, str, str, str]:
    """The texts of a run that is under way; blank while it has said nothing."""
    steps = job.config.get("steps", 0)
    words = said(job.point)[-WIDE:]
    last = _last(Workdir(folder).metrics)
    if not last:
        return name, words, f"0/{steps}", "", ""
    return name, words, f"{last['step']}/{steps}", str(last.get("phase", "")), f"{last['loss']:.4g}"


def _last(metrics: Path) -> dict[str, Any]:
    """The last record of a mean in a run's metrics, of those near their end; {} where there is none."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, metrics.stat().st_size - TAIL))
            lines = file.read().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        # A line may be half written, and the first is cut by the window.
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and record.get("event") == "train":
                return record
    return {}
