"""The plan that a config names, in steps."""

from collections.abc import Mapping
from typing import Any

from configs.base import PLAN_NAMES
from sparsity.named import call, choose
from sparsity.plan.phases import Plan, parse
from sparsity.units.blocks import exact


def plan_of(config: Mapping[str, Any], steps_per_epoch: int) -> Plan:
    """The parsed plan of a run; ValueError for one that does not exist or does not add up."""
    return parse(
        _named(config["plan"]),
        steps=config["steps"],
        steps_per_epoch=steps_per_epoch,
        sparse=exact(config["density"]) < 1,
    )


def tuples(value: Any) -> Any:
    """Plain data with tuples for its lists, as JSON has taken them: they are hashed further on."""
    if isinstance(value, Mapping):
        return {key: tuples(entry) for key, entry in value.items()}
    return tuple(tuples(entry) for entry in value) if isinstance(value, list) else value


def _named(section: Mapping[str, Any]) -> Plan:
    name = section["name"]
    make = choose("plan", name, PLAN_NAMES)
    settings = {k: v for k, v in section.items() if v is not None and k != "name"}
    if name == "phases" and type(settings.get("phases")) not in (list, tuple):
        raise ValueError(f"plan.phases is a list of mappings, not {section.get('phases')!r}")
    return call(f"the plan {name!r}", make, settings=tuples(settings))
