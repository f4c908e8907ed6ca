"""Scores: how much a unit is worth, one number per unit, larger is better.

Each is a function of the weights as the method sees them (before its own mask) and of the signals of a
tick; `SCORES` names them, with what they need at a tick.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparsity.units.partition import Partition, Units, leaves, pool


class Score(NamedTuple):
    """value(partition, params, grads, grads_squared, key) -> Units; the flags say which of them it reads."""

    value: Callable[[Partition, Any, Any, Any, jax.Array], Units]
    grads: bool = False
    grads_squared: bool = False


def norms(partition: Partition, params: Any) -> Units:
    """Frobenius norm of each unit, with gradient 0 (not NaN) where the unit is 0. A NaN stays one."""
    return {name: _root(total) for name, total in squares(partition, params).items()}


def squares(partition: Partition, params: Any) -> Units:
    """Squared Frobenius norm of each unit, summed in float32."""
    return pool(partition, _gated(partition, params, jnp.square))


def _l2(partition, params, grads, grads_squared, key) -> Units:
    return norms(partition, params)


def _l1(partition, params, grads, grads_squared, key) -> Units:
    return pool(partition, _gated(partition, params, jnp.abs))


def _max(partition, params, grads, grads_squared, key) -> Units:
    return pool(partition, _gated(partition, params, jnp.abs), jnp.max)


def _saliency(partition, params, grads, grads_squared, key) -> Units:
    terms = jax.tree.map(jnp.multiply, _gated(partition, params), _gated(partition, grads))
    return {name: jnp.abs(total) for name, total in pool(partition, terms).items()}


def _fisher(partition, params, grads, grads_squared, key) -> Units:
    weights = _gated(partition, params, jnp.square)
    return pool(partition, jax.tree.map(jnp.multiply, weights, _gated(partition, grads_squared)))


def _random(partition, params, grads, grads_squared, key) -> Units:
    keys = jax.random.split(key, len(partition))
    named = zip(partition.items(), keys, strict=True)
    return {name: jax.random.uniform(k, group.grid) for (name, group), k in named}


SCORES: Mapping[str, Score] = {
    "l2": Score(_l2),  # Frobenius norm
    "l1": Score(_l1),  # sum of magnitudes
    "max": Score(_max),  # largest magnitude (Narang et al. 2017)
    "saliency": Score(_saliency, grads=True),  # |sum of w * gradient|: first-order Taylor
    "fisher": Score(_fisher, grads_squared=True),  # sum of w^2 * mean squared gradient
    "random": Score(_random),  # the same draw at every tick, so that ramps are nested
}


def _gated(
    partition: Partition, tree: Any, change: Callable[[jax.Array], jax.Array] = lambda w: w
) -> dict[str, jax.Array]:
    """The gated leaves by path, in float32 and changed: so that nothing is computed for the others."""
    found = leaves(tree)
    paths = [view.path for group in partition.values() for view in group.gated]
    return {path: change(found[path].astype(jnp.float32)) for path in paths}


def _root(total: jax.Array) -> jax.Array:
    zero = total == 0  # not total > 0, which would hide a NaN
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, total)))
