"""A sweep is data: which values of which fields a family of runs takes."""

import hashlib
import itertools
import json
import math
import random
import runpy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from sparsity.named import unknown

Point = dict[str, Any]
# The argument of the config file, set like a field: it selects the sections.
ARGUMENT = "argument"
FORMS = ("product", "zip", "random", "named")
DRAWS = ("uniform", "log_uniform", "choice")


class Job(NamedTuple):
    """One run of a family: the point it stands at, and its resolved config, plain data."""

    point: Point
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """The hash of the config: the same run has the same name in every sweep."""
        text = json.dumps(self.config, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def points(sweep: Mapping[str, Any]) -> list[Point]:
    """The points of a sweep, in order; its parts multiply.

    product: {field: values}, every combination. zip: {field: values}, side by side.
    named:   {name: {field: value}}, one after the other.
    random:  {"samples": n, "seed": s, "fields": {field: {draw: bounds or choices}}}, the same at each
             call.

    Fields are dotted ("optimizer.learning_rate"); "argument" is that of the config file. Raises
    ValueError for a part or a draw that does not exist, and for lengths that differ in a zip.
    """
    parts = [list(_part(form, entries)) for form, entries in sweep.items()]
    return [_joined(combination) for combination in itertools.product(*parts)]


def jobs(file: str, family: Sequence[Point]) -> list[Job]:
    """The runs of a config file at the points of a family.

    Raises ValueError for a field that the config lacks, a value of another type, and a run that comes
    twice.
    """
    found: dict[str, Job] = {}
    for point in family:
        job = Job(point, resolved(file, point))
        if (other := found.setdefault(job.name, job)) is not job:
            raise ValueError(f"the sweep yields one run twice: {other.point} and {point}")
    return list(found.values())


def resolved(file: str, point: Point) -> dict[str, Any]:
    """The config of a file with a point's fields set, as it comes back from JSON."""
    make = runpy.run_path(file)["get_config"]
    config = make(point[ARGUMENT]) if ARGUMENT in point else make()
    for field, value in point.items():
        if field != ARGUMENT:
            _set(config, field, value)
    return json.loads(json.dumps(config.to_dict()))


def _set(config: ConfigDict, field: str, value: Any) -> None:
    *sections, last = field.split(".")
    node: Any = config
    for section in [*sections, last]:
        if not hasattr(node, "to_dict") or section not in node:
            options = list(node) if hasattr(node, "to_dict") else []
            raise unknown(f"field of the config (in the sweep's {field!r})", section, options)
        node, owner = node.get(section), node
    if isinstance(value, list):
        value = tuple(value)
    try:
        owner[last] = value
    except TypeError as error:
        raise ValueError(f"the sweep's {field} is {value!r}: {error}") from None


def _part(form: str, entries: Any) -> Iterator[Point]:
    if form not in FORMS:
        raise unknown("part of a sweep", form, FORMS)
    if not hasattr(entries, "keys"):
        raise ValueError(f"a sweep's {form!r} is a mapping, not {entries!r}")
    if form == "named":
        yield from (dict(fields) for fields in entries.values())
    elif form == "random":
        yield from _drawn(**entries)
    else:
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


def _drawn(samples: int, fields: Mapping[str, Mapping[str, Any]], seed: int = 0) -> Iterator[Point]:
    rng = random.Random(seed)
    for _ in range(samples):
        yield {field: _draw(rng, field, **rule) for field, rule in fields.items()}


def _draw(rng: random.Random, field: str, **rule: Any) -> Any:
    if len(rule) != 1 or not rule.keys() <= set(DRAWS):
        raise unknown(f"draw of {field}", ", ".join(rule), DRAWS)
    ((draw, values),) = rule.items()
    if draw == "choice":
        return rng.choice(list(values))
    low, high = values
    if draw == "uniform":
        return rng.uniform(low, high)
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _joined(parts: Sequence[Point]) -> Point:
    point: Point = {}
    for part in parts:
        if twice := point.keys() & part.keys():
            raise ValueError(f"two parts of the sweep set {min(twice)!r}")
        point |= part
    return point
