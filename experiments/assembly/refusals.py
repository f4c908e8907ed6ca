"""Configs that no part can refuse by itself, refused before step 0."""

import functools
import typing
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax

from sparsity.contract import Method
from sparsity.named import choose, unknown
from sparsity.plan.phases import Kind, Plan
from sparsity.target import Target
from sparsity.train.freezing import frozen
from sparsity.train.optimizer import optimizer
from sparsity.train.state import trained
from sparsity.units.blocks import Layer, exact, partition_of, table
from sparsity.units.masks import affordable, counts

FORMS = ("plain", "outer", "proximal")


def refuse_dense(config: Mapping[str, Any]) -> None:
    """The dense method asked to prune."""
    if config["method"]["name"] == "dense" and exact(config["density"]) < 1:
        raise ValueError("the method 'dense' prunes nothing: give it a density of 1")


def refuse(
    config: Mapping[str, Any], method: Method, shapes: Any, layers: Sequence[Layer], plan: Plan
) -> None:
    """Nothing to prune, layers that would collapse, plans and methods that don't go together."""
    density = exact(config["density"])
    if density < 1 and not partition_of(layers):
        raise ValueError(
            f"density {density} was asked, but no layer is cut into blocks: lower blocks.at_least, "
            f"take smaller blocks, or name layers in blocks.rules\n{table(layers)}"
        )
    target = Target.of(layers)
    keep = counts(target.partition, target.densities, Fraction(1))
    _refuse_method(config["method"])
    if config["method"].get("select") == "globally":
        affordable(target.partition, keep, config["method"].get("floor", 1))
    _refuse_buried(method, plan)
    _refuse_frozen(method, shapes, plan)


def refuse_penalty(section: Mapping[str, Any]) -> None:
    """A form that doesn't exist, and a strength of nothing."""
    choose("form of a penalty", section["form"], dict.fromkeys(FORMS))
    if section["name"] == "none" and section["strength"]:
        raise ValueError(
            f"penalty.strength is {section['strength']!r} but penalty.name is 'none': name a penalty"
        )


def refuse_rule(rule: Mapping[str, Any]) -> None:
    """Axes of a rule of blocks that are no tuples of integers, an `at_least` that is no integer."""
    for name in ("rows", "cols", "batch"):
        axes = rule.get(name)
        numbers = type(axes) is tuple and all(type(axis) is int and axis >= 0 for axis in axes)
        if axes is not None and not numbers:
            raise ValueError(
                f"{name} of a rule of blocks is a list of axes (0, 1, ..), not {axes!r}"
            )
    if type(rule.get("at_least")) not in (int, type(None)):
        raise ValueError(
            f"at_least of a rule of blocks is an integer or None, not {rule['at_least']!r}"
        )


def optimizer_settings(section: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The section's settings that are not left at None, with those that the run gives."""
    hints = typing.get_type_hints(optimizer)
    known = [name for name in hints if name not in ("return", *given)]
    for name in section:
        if name not in known:
            raise unknown("field of the section 'optimizer'", name, known)
    _refuse_schedule(section.get("schedule"))
    return {k: v for k, v in section.items() if v is not None} | dict(given)


def _refuse_schedule(schedule: Any) -> None:
    pairs = schedule if isinstance(schedule, list | tuple) else ()
    numbers = [x for pair in pairs if isinstance(pair, list | tuple) for x in pair]
    good = len(numbers) == 2 * len(pairs) and all(type(x) in (int, float) for x in numbers)
    if not (isinstance(schedule, str) or (pairs and good)):
        raise ValueError(
            f"optimizer.schedule is a name or a list of (progress, factor), not {schedule!r}"
        )


def _refuse_method(section: Mapping[str, Any]) -> None:
    for name, least in (("batches", 1), ("floor", 0)):
        if section.get(name, least) < least:
            raise ValueError(f"method.{name} is {least} or more, not {section[name]}")


def _refuse_frozen(method: Method, shapes: Any, plan: Plan) -> None:
    """Patterns that match nothing, before a phase far ahead finds out."""
    tree = trained(jax.eval_shape(method.init, jax.random.key(0), shapes))
    for p in plan:
        jax.eval_shape(functools.partial(frozen, patterns=p.frozen), tree)


def _refuse_buried(method: Method, plan: Plan) -> None:
    buried = any(p.dead == "zeroed" for p in plan)
    revives = any(p.kind == Kind.DENSE for p in plan[1:]) or any(
        p.kind == Kind.SPARSIFY and p.regrow for p in plan
    )
    if buried and revives and not method.absorbs_zero:
        raise ValueError(
            "the plan zeroes dead weights and revives them, but under this reparametrisation a weight "
            "at 0 has no gradient; take dead='kept'"
        )
