"""Two clocks, and rounds in which all arms take turns.

A drift of the machine meets all arms of a round alike, so each is divided by the dense step of its own
round, and medians are taken over the rounds. The order is shuffled in each round (seeded): an arm that
always followed the same one would inherit its caches.
"""

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax


class Seconds(NamedTuple):
    """wall: on the clock. processor: of all this process's threads together."""

    wall: float
    processor: float


class Spread(NamedTuple):
    """A median between its quartiles."""

    low: float
    median: float
    high: float


Samples = Mapping[str, Sequence[Seconds]]


def deciding() -> str:
    """The clock that verdicts are given by: "processor", or "wall" where the work is not the CPU's.

    Another program on the same cores stops a step's threads, and the wall's clock goes on; the processor's
    does not, so its ratios hold on a machine that is shared. They leave out what a step waits for.
    """
    return "processor" if jax.default_backend() == "cpu" else "wall"


def timed(run: Callable[[], object], times: int = 1) -> Seconds:
    """What one call takes, of so many in a row."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(times):
        run()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return Seconds(wall / times, processor / times)


def warm(arms: Mapping[str, Callable[[], object]]) -> Mapping[str, Callable[[], object]]:
    """The same arms, each called twice: the first call compiles, the second takes its outputs as inputs."""
    for run in arms.values():
        run()
        run()
    return arms


def interleaved(
    arms: Mapping[str, Callable[[], object]], rounds: int, seed: int, least: float = 0
) -> dict[str, list[Seconds]]:
    """Seconds of each arm in each round; what is compiled at first must have been (see `warm`).

    least: seconds that a turn takes at least. With 0 an arm runs once in its turn, in caches as whatever came
    before has left them. Else it runs once without being timed and then as often as it needs: in its own caches.
    """
    order, shuffled = list(arms), random.Random(seed)
    times = {name: _times(arms[name], least) for name in arms}
    found: dict[str, list[Seconds]] = {name: [] for name in arms}
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name in order:
            if least:
                arms[name]()
            found[name].append(timed(arms[name], times[name]))
    return found


def _times(run: Callable[[], object], least: float) -> int:
    """Runs that fill so many seconds."""
    return math.ceil(least / max(timed(run).wall, 1e-9)) if least else 1


def ratios(samples: Samples, name: str, base: str, clock: str) -> Spread:
    """An arm over another, round by round."""
    pairs = zip(samples[name], samples[base], strict=True)
    return spread([getattr(a, clock) / max(getattr(b, clock), 1e-9) for a, b in pairs])


def spread(values: Sequence[float]) -> Spread:
    """The median and the quartiles of at least one value."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def medians(rounds: int, timed: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Median of what each returns, taken in turn."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, run in timed.items():
            found[name].append(run())
    return {name: statistics.median(seconds) for name, seconds in found.items()}
