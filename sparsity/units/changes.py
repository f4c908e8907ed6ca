"""The combinatorial half made visible: how a mask differs from the last, how far a soft one has gone.

Numbers per group for the metrics, from arrays of the grid's shape; all of it can be jitted.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from sparsity.units.partition import Group, Partition, Units

Numbers = dict[str, jax.Array]


def changes(old: Units, new: Units) -> dict[str, Numbers]:
    """Per group of `new`, counts (int32) and a share (float32) over all its units.

    alive:   units in the new mask.
    revived: units that it has and the old one has not; pruned: the reverse; swapped: their sum.
    overlap: share of the new mask's units that were alive before; 0 where nothing is alive.

    A group that `old` lacks was all alive.
    """
    return {name: _change(old.get(name, jnp.ones_like(new[name])), new[name]) for name in new}


def spread_of(
    partition: Partition, multipliers: Units, target: Mapping[str, jax.Array]
) -> dict[str, Numbers]:
    """Per group with soft numbers A, what they have become (float32); all equal at the start.

    target:  units kept at the plan's end, per group and index; all where it has no number.

    entropy: of A / sum(A) relative to that of equal numbers, in [0, 1] and 1 for a single unit; per
             independent index of a group, and then the mean. A sign doesn't count.
    maximum: the largest A.
    at_clip: share of units with A <= density or A >= 1 / density, density = target / units: where
             the clip of SequentialAttention++ holds them (arXiv 2402.17902, appendix C.1).
    """
    return {
        name: _spread(partition[name], a.astype(jnp.float32), target.get(name))
        for name, a in multipliers.items()
    }


def _change(old: jax.Array, new: jax.Array) -> Numbers:
    old, new = old.astype(bool), new.astype(bool)
    alive, revived, pruned = _count(new), _count(new & ~old), _count(old & ~new)
    kept = (alive - revived).astype(jnp.float32)
    return {
        "alive": alive,
        "swapped": revived + pruned,
        "revived": revived,
        "pruned": pruned,
        "overlap": kept / jnp.maximum(alive, 1),
    }


def _spread(group: Group, a: jax.Array, target: jax.Array | None) -> Numbers:
    density = jnp.float32(1.0) if target is None else jnp.float32(target) / group.size
    # What was clipped by another program may have other last bits.
    near = 1 + 1e-5
    clipped = (a <= density * near) | (a * near >= 1 / density)
    return {
        "entropy": jnp.mean(_entropy(jnp.abs(a), group)),
        "maximum": jnp.max(a),
        "at_clip": jnp.mean(clipped.astype(jnp.float32)),
    }


def _entropy(a: jax.Array, group: Group) -> jax.Array:
    """Per index. log(sum) - sum(a log a) / sum is exactly log(units) at a = 1."""
    if group.size == 1:
        return jnp.ones(group.grid[: group.batch], a.dtype)
    axes = tuple(range(group.batch, a.ndim))
    positive = a > 0
    terms = jnp.where(positive, a * jnp.log(jnp.where(positive, a, 1.0)), 0.0)
    total = jnp.sum(a, axis=axes)
    found = jnp.log(total) - jnp.sum(terms, axis=axes) / total
    most = jnp.log(jnp.float32(group.size))
    return jnp.where(total > 0, jnp.clip(found / most, 0.0, 1.0), 0.0)


def _count(units: jax.Array) -> jax.Array:
    return jnp.sum(units, dtype=jnp.int32)
