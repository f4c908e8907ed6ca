"""What a paper prints for the cells of a table, as data of the table's config, each with its source.

    config.published = {"AC/DC": {"8x8, 90%": {"value": 67.74, "source": "arXiv 2402.17902v1, Table 1"}}}

A figure that we lack is left out, and prints "n/a": never another paper's. One that the paper marks as
diverged has the value None and says so in "said".
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sparsity.named import unknown


class Figure(NamedTuple):
    """A paper's figure in the unit of the table's first metric; NaN where it has none, said why not."""

    value: float = math.nan
    source: str = ""
    said: str = "n/a"


Figures = dict[str, dict[str, Figure]]


def figures(found: Mapping[str, Any]) -> Figures:
    """{arm: {place: figure}} of a table's config or results; {} where nothing was published.

    Raises ValueError for a figure that lacks its value or its source.
    """
    return {
        arm: {place: _figure(arm, place, figure) for place, figure in own.items()}
        for arm, own in (found.get("published") or {}).items()
    }


def _figure(arm: str, place: str, given: Any) -> Figure:
    if not isinstance(given, Mapping) or not given.keys() <= set(Figure._fields):
        raise ValueError(f"{arm}, {place}: a published figure has value and source, not {given!r}")
    value = given.get("value")
    if type(value) not in (int, float) and not (value is None and given.get("said")):
        raise ValueError(
            f"{arm}, {place}: the value is a number, or None with what is said instead"
        )
    if not given.get("source"):
        raise ValueError(f"{arm}, {place}: a published figure names its source")
    return Figure(math.nan if value is None else value, given["source"], given.get("said", ""))


def refuse_strange(found: Figures, arms: Collection[str], places: Collection[str]) -> None:
    """Raises ValueError for figures of an arm or a place that the table lacks: they would never show."""
    for arm, own in found.items():
        if arm not in arms:
            raise unknown("arm (in published)", arm, arms)
        for place in own:
            if place not in places:
                raise unknown(f"cell (in what is published of {arm})", place, places)


def sources(found: Figures) -> list[str]:
    """Each source once, in order."""
    return list(dict.fromkeys(f.source for own in found.values() for f in own.values()))
