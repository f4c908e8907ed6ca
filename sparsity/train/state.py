"""Everything that a run carries from step to step, as one tree of arrays."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsity.contract import Method, State


class TrainState(NamedTuple):
    """step: int32, steps done. wrapped: the method's state. opt: the optimiser's. mutable: the model's
    other collections (batch statistics). key: data of the run's key. sums: of the metrics since they were
    last logged, so that a resumed run logs the same means.
    """

    step: jax.Array
    wrapped: State
    opt: Any
    mutable: Any
    key: jax.Array
    sums: dict[str, jax.Array]


METRICS = ("loss", "penalty", "correct", "examples", "steps")


def no_sums() -> dict[str, jax.Array]:
    """Metrics before the first step."""
    return {name: jnp.float32(0.0) for name in METRICS}


def trained(state: State) -> dict[str, Any]:
    """What the optimiser sees of a method's state."""
    return {"params": state.params, "gates": state.gates}


def create(
    key: jax.Array, method: Method, tx: optax.GradientTransformation, params: Any, mutable: Any
) -> TrainState:
    """A run's first state around a model's first parameters."""
    for_method, for_run = jax.random.split(key)
    wrapped = method.init(for_method, params)
    opt = tx.init(trained(wrapped))
    return TrainState(jnp.int32(0), wrapped, opt, mutable, jax.random.key_data(for_run), no_sums())
