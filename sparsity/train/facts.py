"""What a method does to weights, found by tracing it: nothing that it says of itself has to be believed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from sparsity.contract import Context, Method, Signals, State
from sparsity.plan.phases import Kind
from sparsity.units.partition import Partition, leaves


class Facts(NamedTuple):
    """What a method does to the weights of a partition.

    refusal:   why live blocks alone cannot stand for them, in words, or "".
    masked:    the groups that it has hard masks of.
    reads:     whether its `apply` computes with weights though masks and multipliers are left to products.
    penalises: whether its penalty does.
    """

    refusal: str = ""
    masked: frozenset[str] = frozenset()
    reads: bool = False
    penalises: bool = False


class _Seen(NamedTuple):
    """Weights that `apply` does not hand on as they are, and modules whose outputs it changes."""

    weights: list[str]
    modules: list[str]


def facts(method: Method, partition: Partition, shapes: Any) -> Facts:
    """Found by tracing: weights that `apply` hands on are the very objects that it was given.

    shapes: the model's trained tree, as shapes.
    """
    state = jax.eval_shape(method.init, jax.random.key(0), shapes)
    paths = [view.path for group in partition.values() for view in group.gated]
    weights = [i for i, path in enumerate(leaves(state.params)) if path in paths]
    trained = range(len(jax.tree.leaves((state.params, state.gates))))
    context, seen = Context(Kind.SPARSE, unspread=True), []

    def apply(state: State) -> Any:
        applied = method.apply(state, context)
        was, now = leaves(state.params), leaves(applied.params)
        changed = [path for path in paths if now[path] is not was[path]]
        seen.append(_Seen(changed, [*applied.hooks]))
        return dict(applied.scales)

    def penalty(state: State) -> Any:
        return method.penalty(state, context, Signals())

    def masks(state: State) -> Any:
        return method.masks(state, context)

    reads, penalises = (_reads(function, state, weights) for function in (apply, penalty))
    moving = _reads(masks, state, trained)
    masked = frozenset(jax.eval_shape(masks, state))
    return Facts(_refusal(seen[0], moving), masked, reads, penalises)


def _refusal(seen: _Seen, moving: bool) -> str:
    if seen.modules:
        return f"the method changes what the module {seen.modules[0]} gives"
    if seen.weights:
        return f"the method computes weights in the place of {seen.weights[0]}"
    if moving:
        return "the method computes its masks of what is trained, so that any step may move them"
    return ""


def _reads(function: Any, state: State, places: Sequence[int]) -> bool:
    """Whether anything is computed from the state's leaves at these places: parameters first, then gates."""
    jaxpr = jax.make_jaxpr(function)(state).jaxpr
    cut = {id(jaxpr.invars[i]) for i in places}
    return any(id(v) in cut for eqn in jaxpr.eqns for v in eqn.invars)
