"""What a run is: the fields of its config that decide what comes out of it.

A run's name in a sweep and whose directory it is both go by these; the other fields may change on the way.
"""

from collections.abc import Mapping
from typing import Any

SHOWN = 12  # differences of two configs that are listed
# How a run is computed, and on how many devices: a run that goes on otherwise than it began has other last bits.
BITS = ("execution", "devices", "mesh.fsdp", "mesh.model", "mesh.rules")
# Where its data lie, and who reads them: a set is known by its name.
LOCAL = ("data.root", "data.workers", "data.processes")
ASIDE = (*BITS, *LOCAL)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config that decide what comes out, by their path."""
    return {field: value for field, value in flat(config).items() if field not in ASIDE}


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """A line for each such field in which two configs differ, the first of many."""
    old, new = identity(there), identity(asked)
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    lines = [f"{key}: {old.get(key)!r} there, {new.get(key)!r} asked" for key in changed]
    return lines[:SHOWN] + [f"and {len(lines) - SHOWN} more"] * (len(lines) > SHOWN)


def otherwise(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each field that changes no more than the last bits and that differs."""
    old, new = flat(there), flat(now)
    return [
        f"{field} {old[field]} then and {new[field]} now: its last bits come out otherwise"
        for field in BITS
        if field in old and old[field] != new[field]
    ]


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The fields of nested data by their path, with dots."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found
