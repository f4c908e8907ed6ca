"""Which layers of a run are multiplied by their live blocks, phase by phase: as its config asks, and told."""

from collections.abc import Mapping
from typing import Any

from experiments.assembly.placement import Placement
from sparsity.contract import Method
from sparsity.plan.phases import Plan
from sparsity.target import Target
from sparsity.train.execution import FIXED, MASKED, Choice, Execution, choices
from sparsity.train.facts import facts
from sparsity.train.forward import Model
from sparsity.train.optimizer import clipped, coupled
from sparsity.units.partition import Partition

GLOBALLY = "blocks are chosen over all layers together, so that a layer's count is not the plan's"
SHARED_OUT = "weights are shared out over devices, and kernels take whole ones"


def executed(
    config: Mapping[str, Any],
    model: Model,
    shapes: tuple[Any, Any, Any],
    taught: tuple[Method, Partition, Any],
    place: Placement,
) -> Execution:
    """The execution of a config. shapes: (trained, mutable, inputs); taught: (method, partition, prox)."""
    if config["execution"] == "masked":
        return MASKED
    method, partition, prox = taught
    section = config["optimizer"]
    several = place.mesh.size > 1
    return Execution(
        mode=config["execution"],
        sites=model.sites(*shapes),
        batch=config["batch"] // place.rows_over,
        mesh=place.mesh if several else None,
        platform=place.mesh.devices.flat[0].platform,
        refusal=_refusal(config, place),
        coupled=coupled(section["name"], prox),
        clipped=clipped(section.get("clip"), section.get("accumulate", 1)),
        facts=facts(method, partition, shapes[0]),
    )


def _refusal(config: Mapping[str, Any], place: Placement) -> str:
    if place.shares_weights:
        return SHARED_OUT
    return GLOBALLY if config["method"].get("select") == "globally" else ""


def told(execution: Execution, target: Target, plan: Plan) -> list[str]:
    """A line per layer and kind of phase with fixed masks: what runs, and why; none of a masked run."""
    if execution.mode == "masked":
        return []
    lines: dict[str, None] = {}
    for index, phase in enumerate(plan):
        if phase.kind in FIXED:
            found = choices(execution, target, plan, index)
            lines |= dict.fromkeys(f"  {phase.kind}: {line}" for line in _lines(found))
    return [f"execution {execution.mode}", *(lines or {"  no phase has fixed masks": None})]


def _lines(found: Mapping[str, Choice]) -> list[str]:
    """One line for all layers where one reason holds for all."""
    whys = {choice.why for choice in found.values()}
    if len(whys) == 1 and not any(choice.way for choice in found.values()):
        return [f"masked, as {whys.pop()}"]
    return [f"{name}: {_word(choice)}, {choice.why}" for name, choice in found.items()]


def _word(choice: Choice) -> str:
    return "live blocks" if choice.way else "masked"


def shown(execution: Execution, target: Target, plan: Plan) -> str:
    """`told` as one text, for a dry run."""
    return "\n".join(told(execution, target, plan)) or "  execution masked"
