"""An optax transform built from the settings of a config.

The tree that is trained is {"params": nested dict of arrays, "gates": any pytree, often empty}. Every
optimiser here is the same chain,

    clip, direction and decay, gates' factor, -learning rate, phase's factor, prox

so that the schedule, a phase's learning-rate factor and a reset mean the same for all of them. Where
optax puts the learning rate before a momentum (rmsprop, adafactor) it comes after it here, as in
PyTorch; at a constant rate the two are equal.
"""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsity.train import directions, rates
from sparsity.train.freezing import frozen, hold
from sparsity.train.rates import schedule

__all__ = [
    "clipped",
    "coupled",
    "frozen",
    "hold",
    "optimizer",
    "phase_scaled",
    "proximal",
    "schedule",
]

Tree = Any
Prox = Callable[[Tree, Any], Tree]


def optimizer(
    *,
    name: str,
    learning_rate: float,
    steps: int,
    schedule: str | rates.Pairs = "cosine",
    warmup: int = 0,
    final: float = 0.0,
    momentum: float | None = None,
    nesterov: bool | None = None,
    b1: float | None = None,
    b2: float | None = None,
    eps: float | None = None,
    weight_decay: float = 0.0,
    gates_learning_rate: float = 1.0,
    gates_weight_decay: float | None = None,
    clip: float | None = None,
    prox: Prox | None = None,
    accumulate: int = 1,
) -> optax.GradientTransformationExtraArgs:
    """The transform of a run; its update takes an extra `lr_factor`, see `phase_scaled`.

    name:          sgd, adam, adamw, rmsprop, lion, adafactor or lamb.
    learning_rate, steps, schedule, warmup, final: see `rates.schedule`; counted in calls of update.
    momentum, nesterov, b1, b2, eps: None is the optimiser's own default (directions.py).
    weight_decay:  decays leaves of rank 2 or more of params (no bias, no norm). Added to the gradient before the moments in sgd, adam and rmsprop (L2, as
                   in PyTorch and the ImageNet recipes); beside them in adamw, lion, adafactor, lamb.
    gates_learning_rate: factor on the learning rate of the gates.
    gates_weight_decay: decays every gate, in the same place; None is weight_decay.
    clip:          largest norm of the whole gradient, params and gates together; of the mean of those that
                   are accumulated.
    prox:          (trained, step size) -> trained, see `proximal`.
    accumulate:    gradients averaged per update of the weights: k of them from batches of b examples make
                   the update of one batch of k*b. Nothing else of the chain sees the calls in between.

    Raises ValueError for a name that does not exist and a setting that the optimiser has no use for;
    `named.call` refuses a setting that does not exist.
    """
    every = operator.index(accumulate)
    if every < 1:
        raise ValueError(f"accumulate={accumulate!r}: expected 1 or more")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay={weight_decay!r}: expected 0 or more")
    if not gates_learning_rate >= 0:
        raise ValueError(f"gates_learning_rate={gates_learning_rate!r}: expected 0 or more")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip={clip!r}: expected a positive norm, or None")
    rate = rates.schedule(
        learning_rate=learning_rate, steps=steps, schedule=schedule, warmup=warmup, final=final
    )
    settings = {"momentum": momentum, "nesterov": nesterov, "b1": b1, "b2": b2, "eps": eps}
    own_decay = weight_decay if gates_weight_decay is None else gates_weight_decay
    if not own_decay >= 0:
        raise ValueError(f"gates_weight_decay={gates_weight_decay!r}: expected 0 or more, or None")
    decay = optax.chain(
        optax.add_decayed_weights(weight_decay, mask=_matrices),
        optax.add_decayed_weights(own_decay, mask=directions.is_gate),
    )

    def rate_of_update(count):  # the chain counts updates of the weights, the schedule calls
        return rate(count * every)

    chain = [
        *([optax.clip_by_global_norm(clip)] if clip is not None else []),
        *directions.direction(name, settings)(decay),
        optax.masked(optax.scale(gates_learning_rate), directions.is_gate),
        optax.scale_by_learning_rate(rate_of_update),
        phase_scaled(),
        *([proximal(prox, rate_of_update)] if prox is not None else []),
    ]
    tx = optax.chain(*chain)
    if every == 1:
        return tx
    many = optax.MultiSteps(tx, every)

    # Its own gradient_transformation() does not take extra arguments: a chain would drop lr_factor.
    def update(updates, state, params=None, **extra):
        return many.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(many.init, update)


def coupled(name: str, prox: Prox | None) -> str:
    """Why an update of some entries of a weight depends on the others, in words; "" where it does not."""
    if prox is not None:
        return "a proximal step shrinks whole blocks of the dense weight"
    reasons = {
        "lamb": "lamb scales an update by the norm of the whole weight",
        "adafactor": "adafactor's moments are of whole rows and columns",
    }
    return reasons.get(name, "")


def clipped(clip: float | None, accumulate: int) -> int:
    """Calls of update whose gradients are averaged and clipped as one; 1 where none are."""
    return 1 if clip is None else accumulate


def phase_scaled() -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by `tx.update(grads, state, params, lr_factor=...)`: scalar, traced, else 1."""

    def update(updates, state, params=None, *, lr_factor=1.0, **extra):
        del params, extra
        return jax.tree.map(lambda u: u * jnp.asarray(lr_factor, u.dtype), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def proximal(prox: Prox, schedule: rates.Rate) -> optax.GradientTransformationExtraArgs:
    """Last in a chain: updates -> prox(params + updates, step size) - params.

    The step size is schedule(count) * lr_factor, a scalar. An entry that prox sets to 0 is exactly 0
    once the update is applied. After plain sgd this is proximal gradient descent; a preconditioned
    update (adam) has a step size per entry, which the scalar here only stands in for.
    """

    def init(params):
        del params
        # optax's own class, so that whoever knows what a schedule's count is knows this one.
        return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))

    def update(updates, state, params=None, *, lr_factor=1.0, **extra):
        del extra
        if params is None:
            raise ValueError("proximal needs the parameters: tx.update(grads, state, params)")
        moved = jax.tree.map(jnp.add, params, updates)
        shrunk = prox(moved, schedule(state.count) * lr_factor)
        new = optax.ScaleByScheduleState(count=optax.safe_increment(state.count))
        return jax.tree.map(lambda s, p: s.astype(p.dtype) - p, shrunk, params), new

    return optax.GradientTransformationExtraArgs(init, update)


def _matrices(tree: Tree) -> Tree:
    return jax.tree.map(
        lambda gate, x: not gate and jnp.ndim(x) >= 2, directions.is_gate(tree), tree
    )
