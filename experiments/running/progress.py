"""How a run gets on, on the terminal: step, phase, density, loss, speed, time left."""

import bisect
import sys
import time
from typing import Any

import jax
from tqdm import tqdm

from sparsity.plan.phases import Plan, starts
from sparsity.train.descent import Held
from sparsity.train.loop import Place, Record

# The host runs ahead of the device; waiting now and then keeps what is shown, and the time that a
# request to end takes, honest. A wait costs less than a thousandth of this.
STEPS, SECONDS = 64, 0.5
LINES = 10.0  # seconds between two lines where the output is no terminal


class Pace:
    """Waits for the device every few steps, and knows how fast they go."""

    def __init__(self) -> None:
        self._step, self._time = -1, time.monotonic()
        self.speed = 0.0  # steps per second, since the wait before the last

    def at(self, place: Place, state: Held) -> bool:
        """Whether it has just waited for the device."""
        steps, now = place.step - self._step, time.monotonic()
        if self._step >= 0 and (not steps or (steps < STEPS and now - self._time < SECONDS)):
            return False
        jax.block_until_ready(state.step)
        now = time.monotonic()
        self.speed = steps / max(1e-9, now - self._time) if self._step >= 0 else 0.0
        self._step, self._time = place.step, now
        return True


class Progress:
    """A bar on a terminal, and a line now and then where the output goes elsewhere."""

    def __init__(self, plan: Plan, start: int) -> None:
        self._plan, self._edges = plan, starts(plan)
        self._bar = tqdm(
            total=self._edges[-1],
            initial=start,
            unit="step",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
            bar_format="{desc}{percentage:3.0f}%|{bar}| {n}/{total} steps, {rate_fmt}, {remaining} left{postfix}",
        )
        self._begun = start, time.monotonic()
        self._said, self._record = time.monotonic(), {}

    def at(self, step: int) -> None:
        """The run has come to a step."""
        index = min(bisect.bisect_right(self._edges, step), len(self._plan)) - 1
        self._bar.set_description_str(f"{self._plan[index].kind} ", refresh=False)
        self._bar.update(step - self._bar.n)

    def record(self, record: Record) -> None:
        """The run has written a record of its metrics."""
        if record["event"] != "train":
            return
        self._record = record
        self._bar.set_postfix_str(_numbers(record), refresh=False)
        if self._bar.disable and time.monotonic() - self._said >= LINES:
            self._said = time.monotonic()
            print(self.line(record["step"]), file=sys.stderr, flush=True)

    def line(self, step: int) -> str:
        """The same as the bar says, in words."""
        start, begun = self._begun
        speed = max(1e-9, (step - start) / (time.monotonic() - begun))
        left = (self._edges[-1] - step) / speed
        return (
            f"step {step}/{self._edges[-1]}, {self._record.get('phase', '')}, {_numbers(self._record)}, "
            f"{speed:.1f} steps/s, {tqdm.format_interval(left)} left"
        )

    def close(self) -> None:
        """Ends the display."""
        self._bar.close()


def _numbers(record: Any) -> str:
    return f"density {record.get('density', 1):.3g}, loss {record.get('loss', 0):.4g}"
