"""A config's fields are those of base.py, each of its kind: checked before anything is made of them."""

import functools
import math
from collections.abc import Mapping
from typing import Any

from configs.base import base
from sparsity.named import unknown
from sparsity.train.execution import MODES

# Sections whose fields are the settings of the function they name, which checks them.
NAMED = ("method", "model", "plan", "optimizer")
AT_LEAST = {"steps": 1, "batch": 1, "devices": 1, "mesh.fsdp": 1, "mesh.model": 1}
# Keys of random numbers have 32 bits: a larger seed would stand for a smaller one.
SEEDS = 2**32
# Left to what reads them, as they are of more than one type.
OPEN = ("density", "blocks.block", "blocks.rules", "mesh.rules")


def check(config: Any) -> None:
    """Raises ValueError for a field that is unknown (the nearest is named), absent or of another kind."""
    _section("", config, _known())
    if config["seed"] >= SEEDS:
        raise ValueError(f"seed is below 2**32, not {config['seed']}")
    if config["execution"] not in MODES:
        raise unknown("execution", config["execution"], MODES)
    if not config["label_smoothing"] < 1:
        raise ValueError(f"label_smoothing is in [0, 1), not {config['label_smoothing']!r}")


@functools.cache
def _known() -> dict[str, Any]:
    return base().to_dict()


def _section(path: str, given: Any, known: Mapping[str, Any]) -> None:
    what = f"the section {path!r}" if path else "the config"
    if not hasattr(given, "keys"):
        raise ValueError(f"{what} is a mapping with {', '.join(known)}, not {given!r}")
    if path in NAMED:
        known = {"name": known["name"]}
    elif strange := [name for name in given if name not in known]:
        raise unknown(f"field of {what}", strange[0], known)
    for name, default in known.items():
        if name not in given:
            raise ValueError(f"{what} lacks the field {name!r}; configs/base.py has them all")
        _field(f"{path}.{name}".lstrip("."), given[name], default)


def _field(path: str, given: Any, default: Any) -> None:
    if isinstance(default, Mapping):
        _section(path, given, default)
    elif path not in OPEN and (expected := _expected(path, given, default)):
        raise ValueError(f"{path} is {expected}, not {given!r}")


def _expected(path: str, given: Any, default: Any) -> str:
    """What the field is, where `given` is something else; "" where it is that."""
    if isinstance(default, bool):
        return "" if isinstance(given, bool) else "True or False"
    if isinstance(default, int):
        least = AT_LEAST.get(path, 0)
        good = type(given) is int and given >= least
        return "" if good else f"an integer of {least} or more"
    if isinstance(default, float):
        good = type(given) in (int, float) and math.isfinite(given) and given >= 0
        return "" if good else "a number of 0 or more"
    return "" if isinstance(given, str) else "a text"
