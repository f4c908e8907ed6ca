"""What happens to a run's state between steps: new masks, moments restarted, a look ahead, an evaluation.

Pure functions of `Parts`; `step` compiles them.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sparsity.contract import Applied, Context, Method, Signals, State
from sparsity.train import moments
from sparsity.train.descent import Batch, Parts, batch_at, buried
from sparsity.train.state import TrainState, trained
from sparsity.train.unchanged import unchanged
from sparsity.units.changes import changes, spread_of
from sparsity.units.partition import leaves

Report = dict[str, Any]


def tick(
    parts: Parts,
    state: TrainState,
    context: Context,
    signals: Signals,
    zero_moments: bool,
    dead: str,
) -> tuple[TrainState, Report]:
    """The state under new masks, and what changed: masks, multipliers, and whether all is finite."""
    method, partition = parts.method, parts.partition
    old = method.masks(state.wrapped, context)
    wrapped = method.update(state.wrapped, context, signals)
    new = method.masks(wrapped, context)
    wrapped = buried(partition, method, wrapped, context, dead)
    opt, tree = state.opt, trained(wrapped)
    if zero_moments:
        opt = moments.zero_units(parts.tx, opt, tree, unchanged(partition, old, new, tree))
    report = {"masks": changes(old, new), **_report(parts, wrapped, context, signals)}
    return state._replace(wrapped=wrapped, opt=opt), report


def _report(parts: Parts, wrapped: State, context: Context, signals: Signals) -> Report:
    soft = dict(parts.method.apply(wrapped, context).multipliers)
    seen = {**leaves(trained(wrapped)), **leaves({"signals": signals})}
    return {
        "multipliers": spread_of(parts.partition, soft, context.target),
        "finite": {path: jnp.all(jnp.isfinite(x)) for path, x in seen.items()},
    }


def bury(parts: Parts, state: TrainState, context: Context) -> TrainState:
    """The state with its dead weights set to 0."""
    wrapped = buried(parts.partition, parts.method, state.wrapped, context, "zeroed")
    return state._replace(wrapped=wrapped)


def restart(parts: Parts, state: TrainState) -> TrainState:
    """The state with the optimiser's moments as at the start."""
    return state._replace(opt=moments.restart(parts.tx, state.opt, trained(state.wrapped)))


def signals(parts: Parts, state: TrainState, source: Any, context: Context) -> Signals:
    """Means over the next batches of the gradients, and of their squares, as the method needs."""
    method = parts.method
    applied = method.apply(state.wrapped, context)

    def add(ahead, sums):
        grads = jax.grad(lambda params: _loss(parts, state, source, applied, params, ahead))(
            applied.params
        )
        squares = jax.tree.map(jnp.square, grads) if method.needs.grads_squared else None
        return jax.tree.map(jnp.add, sums, (grads, squares))

    total = jax.lax.fori_loop(0, method.needs.batches, add, _zeros(method, applied))
    grads, squares = jax.tree.map(lambda x: x / method.needs.batches, total)
    return Signals(grads if method.needs.grads else None, squares)


def _zeros(method: Method, applied: Applied) -> tuple[Any, Any]:
    zeros = jax.tree.map(jnp.zeros_like, applied.params)
    return zeros, zeros if method.needs.grads_squared else None


def _loss(
    parts: Parts, state: TrainState, source: Any, applied: Applied, params: Any, ahead: jax.Array
) -> jax.Array:
    """Of the batch that is `ahead` of the state's step."""
    batch, _, key = batch_at(parts, state, source, ahead)
    logits, _ = parts.model.apply(params, state.mutable, batch["image"], True, applied.hooks, key)
    return jnp.mean(parts.objective.fit(logits, batch["label"]))


def evaluate(parts: Parts, state: TrainState, context: Context, batch: Batch) -> dict[str, Any]:
    """Sums of loss, correct and examples over a batch with "weight" per example, and where the objective
    ranks examples their scores and labels.
    """
    objective, applied = parts.objective, parts.method.apply(state.wrapped, context)
    logits, _ = parts.model.apply(
        applied.params, state.mutable, batch["image"], False, applied.hooks
    )
    weight, ranked = batch["weight"], {}
    losses = objective.loss(logits, batch["label"])
    if objective.score is not None:
        ranked = {"scores": objective.score(logits), "labels": batch["label"]}
    return {
        **ranked,
        # A padded example counts nothing, whatever it holds.
        "loss": jnp.sum(jnp.where(weight > 0, losses * weight, 0.0)),
        "correct": jnp.sum(objective.right(logits, batch["label"]) * weight),
        "examples": jnp.sum(weight),
    }


def settle(
    parts: Parts, state: TrainState, source: Any, context: Context, batches: int
) -> TrainState:
    """The state with its batch statistics recomputed over the next batches."""
    applied = parts.method.apply(state.wrapped, context)

    def forward(ahead, mutable):
        batch, _, key = batch_at(parts, state, source, ahead)
        return parts.model.apply(applied.params, mutable, batch["image"], True, applied.hooks, key)[
            1
        ]

    return state._replace(mutable=jax.lax.fori_loop(0, batches, forward, state.mutable))
