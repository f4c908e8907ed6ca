"""Ramps: progress through a phase in [0, 1] -> share of the way gone in [0, 1].

They are evaluated on the host, at ticks. All are exactly 1 at 1, and 0 at 0 but for `constant` and a
`piecewise` that begins higher.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from sparsity.named import call, choose

Ramp = Callable[[Fraction], Fraction]


def constant() -> Ramp:
    """1 from the start."""
    return lambda t: Fraction(1)


def linear() -> Ramp:
    """t."""
    return lambda t: t


def cubic() -> Ramp:
    """1 - (1 - t)^3: Zhu and Gupta 2017 (arXiv 1710.01878)."""
    return lambda t: 1 - (1 - t) ** 3


def exponential(c: float = 4.0) -> Ramp:
    """(1 - exp(-c t)) / (1 - exp(-c)): SequentialAttention++ (arXiv 2402.17902), where c = 4."""
    if not c > 0:
        raise ValueError(f"the exponential ramp needs c > 0, not {c!r}")
    return _ends(lambda t: math.expm1(-c * t) / math.expm1(-c))


def cosine() -> Ramp:
    """(1 - cos(pi t)) / 2."""
    return _ends(lambda t: (1 - math.cos(math.pi * t)) / 2)


def piecewise(points: Sequence[Sequence[float]] = ((0.0, 0.0), (1.0, 1.0))) -> Ramp:
    """Straight lines through (progress, share) points that begin at progress 0 and end at (1, 1)."""
    try:
        exact = [(Fraction(str(time)), Fraction(str(share))) for time, share in points]
    except (TypeError, ValueError):
        raise ValueError(f"piecewise points are (progress, share) pairs, not {points!r}") from None
    times = [time for time, _ in exact]
    rising = all(a < b for a, b in itertools.pairwise(times))
    inside = all(0 <= share <= 1 for _, share in exact)
    if len(exact) < 2 or times[0] != 0 or exact[-1] != (1, 1) or not rising or not inside:
        raise ValueError(
            f"piecewise points must rise in progress from 0 to (1, 1), with shares in [0, 1], not "
            f"{points!r}"
        )

    def ramp(t: Fraction) -> Fraction:
        right = next(i for i, time in enumerate(times) if time >= t) or 1
        (t0, y0), (t1, y1) = exact[right - 1], exact[right]
        return y0 + (y1 - y0) * (t - t0) / (t1 - t0)

    return ramp


RAMPS: Mapping[str, Callable[..., Ramp]] = {
    f.__name__: f for f in (constant, linear, cubic, exponential, cosine, piecewise)
}


def ramp(setting: Any) -> Ramp:
    """A ramp from its setting: a name, or a mapping with `name` and the ramp's keyword arguments."""
    if not isinstance(setting, str | Mapping) and not hasattr(setting, "keys"):
        raise ValueError(f"a ramp is a name or a mapping with 'name', not {setting!r}")
    options = {"name": setting} if isinstance(setting, str) else dict(setting)
    name = options.pop("name", None)
    return call(f"the ramp {name!r}", choose("ramp", name, RAMPS), settings=options)


def _ends(curve: Callable[[float], float]) -> Ramp:
    """A float curve as exact fractions, pinned at its ends."""
    return lambda t: (
        t if t in (0, 1) else min(Fraction(1), max(Fraction(0), Fraction(curve(float(t)))))
    )
