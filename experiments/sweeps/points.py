"""A sweep is data: which values of which fields a family of runs takes."""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.sweeps.draws import draw, sample
from sparsity.named import unknown

Point = dict[str, Any]
FORMS = ("product", "zip", "random", "named")


class Named(NamedTuple):
    """A point of a family, and what it is called: its name, or what it sets; "" where it sets nothing."""

    name: str
    point: Point


def points(sweep: Mapping[str, Any]) -> list[Point]:
    """The points of a sweep, in order; see `family`."""
    return [found.point for found in family(sweep)]


def family(sweep: Mapping[str, Any]) -> list[Named]:
    """The points of a sweep with their names, in order; its parts multiply.

    product: {field: values}, every combination. zip: {field: values}, side by side.
    named:   {name: {field: value}}, one after the other; in place of fields a sweep of its own may stand.
    random:  {"samples": n, "seed": s, "fields": {field: {draw: bounds or choices}}}, the same at each
             call.

    Fields are dotted ("optimizer.learning_rate"); "argument" is that of the config file. Raises
    ValueError for a part or a draw that does not exist, and for lengths that differ in a zip.
    """
    parts = [list(_part(form, entries)) for form, entries in sweep.items()]
    return [_joined(combination) for combination in itertools.product(*parts)]


def picked(sweep: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The sweep with only these of its named parts. Raises ValueError for a name that it lacks."""
    named = sweep.get("named", {})
    for name in names:
        if name not in named:
            raise unknown("part of the sweep", name, named)
    return {**sweep, "named": {name: named[name] for name in names}}


def said(point: Point) -> str:
    """What a point sets, in words: "c 2.0, density 0.1"."""
    return ", ".join(f"{field.split('.')[-1]} {value}" for field, value in point.items())


def _part(form: str, entries: Any) -> Iterator[Named]:
    if form not in FORMS:
        raise unknown("part of a sweep", form, FORMS)
    if not hasattr(entries, "keys"):
        raise ValueError(f"a sweep's {form!r} is a mapping, not {entries!r}")
    if form == "named":
        for name, fields in entries.items():
            yield from _called(name, fields)
        return
    for point in _drawn(**entries) if form == "random" else _listed(form, entries):
        yield Named(said(point), point)


def _called(name: str, fields: Any) -> Iterator[Named]:
    """A named point, or the points of a named sweep."""
    if not hasattr(fields, "keys"):
        raise ValueError(f"the sweep's {name!r} is a mapping of fields, not {fields!r}")
    if not fields or not fields.keys() <= set(FORMS):
        yield Named(name, dict(fields))
        return
    for part in family(fields):
        yield Named(_words(name, part.name), part.point)


def _listed(form: str, entries: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
    _refuse_unequal(form, entries)
    join = itertools.product if form == "product" else zip
    for values in join(*entries.values()):
        yield dict(zip(entries, values, strict=True))


def _refuse_unequal(form: str, entries: Mapping[str, Sequence[Any]]) -> None:
    for field, values in entries.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"the sweep's {field} needs a list of values, not {values!r}")
    if form == "zip" and len({len(values) for values in entries.values()}) > 1:
        sizes = ", ".join(f"{field} {len(values)}" for field, values in entries.items())
        raise ValueError(f"a zip needs as many values of each field: {sizes}")


def _drawn(samples: int = 0, fields: Any = None, seed: int = 0, **others: Any) -> Iterator[Point]:
    if others:
        raise unknown("part of a random sweep", min(others), ("samples", "fields", "seed"))
    if type(samples) is not int or samples < 1 or not hasattr(fields, "keys"):
        raise ValueError("a random sweep has samples, a count, and fields, a mapping of draws")
    draws = {field: draw(field, rule) for field, rule in fields.items()}
    rng = random.Random(seed)
    for _ in range(samples):
        yield {field: sample(rng, drawn) for field, drawn in draws.items()}


def _joined(parts: Sequence[Named]) -> Named:
    point: Point = {}
    for part in parts:
        if twice := point.keys() & part.point.keys():
            raise ValueError(f"two parts of the sweep set {min(twice)!r}")
        point |= part.point
    return Named(_words(*(part.name for part in parts)), point)


def _words(*names: str) -> str:
    return ", ".join(filter(None, names))
