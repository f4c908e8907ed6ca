"""A run of a family: a config file with a point's fields set, named by the hash of what comes out."""

import hashlib
import json
import runpy
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs.fields import check
from experiments.running.identity import identity
from experiments.sweeps.points import Point
from sparsity.named import unknown

# The argument of the config file, set like a field: it selects the sections.
ARGUMENT = "argument"


class Job(NamedTuple):
    """One run of a family: the point it stands at, its resolved config (plain data), the config's file."""

    point: Point
    config: dict[str, Any]
    file: str = ""

    @property
    def name(self) -> str:
        """The hash of what the run is: the same run has the same name in every sweep, on every machine."""
        text = json.dumps(identity(self.config), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def jobs(file: str, family: Sequence[Point]) -> list[Job]:
    """The runs of a config file at the points of a family.

    Raises ValueError for a field that the config lacks, a value of another type, and a run that comes
    twice.
    """
    found: dict[str, Job] = {}
    for point in family:
        made = job(file, point)
        if (other := found.setdefault(made.name, made)) is not made:
            raise ValueError(f"the sweep yields one run twice: {other.point} and {point}")
    return list(found.values())


def job(file: str, point: Point) -> Job:
    """The run of a config file at a point; raises as `jobs` does."""
    return Job(point, resolved(file, point), file)


def resolved(file: str, point: Point) -> dict[str, Any]:
    """The config of a file with a point's fields set, as it comes back from JSON."""
    make = runpy.run_path(file)["get_config"]
    config = make(point[ARGUMENT]) if ARGUMENT in point else make()
    for field, value in point.items():
        if field != ARGUMENT:
            _set(config, field, value)
    found = json.loads(json.dumps(config.to_dict()))
    check(found)
    return found


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
