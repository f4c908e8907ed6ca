"""How a value of a field is drawn: the same words in a random sweep and in a search."""

import math
import random
from collections.abc import Mapping
from typing import Any, NamedTuple

from sparsity.named import unknown

DRAWS = ("uniform", "log_uniform", "integers", "choice")


class Draw(NamedTuple):
    """One field's range: the kind of draw, and its bounds (both included), or the values to choose from."""

    kind: str
    values: tuple[Any, ...]


def draw(field: str, rule: Any) -> Draw:
    """The draw that {kind: bounds or choices} names.

    Raises ValueError for another kind, for bounds that are no two rising numbers, and for no choices.
    """
    if not isinstance(rule, Mapping) or len(rule) != 1:
        raise ValueError(f"{field} is drawn by one of {', '.join(DRAWS)}, not by {rule!r}")
    ((kind, values),) = rule.items()
    if kind not in DRAWS:
        raise unknown(f"draw of {field}", kind, DRAWS)
    found = tuple(values) if isinstance(values, list | tuple) else ()
    if problem := _problem(kind, found):
        raise ValueError(f"{field}: {kind} takes {problem}, not {values!r}")
    return Draw(kind, found)


def _problem(kind: str, values: tuple[Any, ...]) -> str:
    """What the draw takes, where it is given something else; "" where it is that."""
    if kind == "choice":
        return "" if values else "a list of choices"
    kinds = (int,) if kind == "integers" else (int, float)
    good = len(values) == 2 and all(type(v) in kinds and math.isfinite(v) for v in values)
    if not good or not values[0] < values[1]:
        return f"two rising {'integers' if kind == 'integers' else 'numbers'}"
    return "bounds above 0" if kind == "log_uniform" and values[0] <= 0 else ""


def sample(rng: random.Random, drawn: Draw) -> Any:
    """A value."""
    if drawn.kind == "choice":
        return rng.choice(drawn.values)
    low, high = drawn.values
    if drawn.kind == "integers":
        return rng.randint(low, high)
    if drawn.kind == "uniform":
        return rng.uniform(low, high)
    return math.exp(rng.uniform(math.log(low), math.log(high)))
