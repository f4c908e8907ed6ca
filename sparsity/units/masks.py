"""Exact counts of units to keep, and the selections that hit them.

A selection is found by bisection on the bits of the scores: it needs sums only, so it neither sorts nor
gathers, and on a sharded array only scalars cross between devices. Ties are broken by position.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

import jax
import jax.numpy as jnp
from jax import lax

from sparsity.units.partition import Group, Partition, Units

Counts = Mapping[str, int]


def kept(name: str, group: Group, density: Fraction) -> int:
    """Units kept per independent index: floor(density * units), exactly (the one rounding rule).

    Raises ValueError, naming the layer, where that is none: the layer would collapse.
    """
    count = math.floor(density * group.size)
    if count < 1:
        raise ValueError(
            f"{name}: a density of {float(density):g} keeps none of its {group.size} units; the least "
            f"reachable is 1/{group.size} = {1 / group.size:.3g}; raise its density or leave it dense"
        )
    return count


def counts(
    partition: Partition, densities: Mapping[str, Fraction], share: Fraction
) -> dict[str, int]:
    """Units that each group keeps, per index, when `share` of its target sparsity has been reached.

    The sparsity is share * (1 - density): 0 is dense, 1 the target.
    """
    return {
        name: kept(name, group, 1 - share * (1 - densities[name]))
        for name, group in partition.items()
    }


def per_group(partition: Partition, scores: Units, keep: Mapping[str, jax.Array | int]) -> Units:
    """Keeps the `keep[name]` best units of each group, per independent index: bool, shape `grid`."""
    return {name: best(scores[name], keep[name], group.batch) for name, group in partition.items()}


def globally(
    partition: Partition, scores: Units, keep: Mapping[str, jax.Array | int], floor: int = 1
) -> Units:
    """Keeps the best units of all groups together, as many as the counts of `keep` add up to.

    The `floor` best units of every group and index stay, so that no layer collapses; `affordable` says
    before a run whether the counts leave room for them.
    """
    total = sum(jnp.asarray(keep[name], jnp.int32) * g.indices for name, g in partition.items())
    keys = [_floored(scores[name], floor, group.batch) for name, group in partition.items()]
    return dict(zip(partition, _prefix(keys, _count, total), strict=True))


def threshold(partition: Partition, scores: Units, level: jax.Array | float) -> Units:
    """Keeps every unit whose score is at least `level`."""
    return {name: scores[name] >= level for name in partition}


def to_budget(
    partition: Partition, scores: Units, costs: Units, budget: jax.Array | float
) -> Units:
    """Keeps the best units of all groups, in falling order of score, until the next exceeds `budget`.

    costs: what each unit costs, not negative, float32 sums. Ties go to the earlier position.
    """

    def spent(alive: list[jax.Array]) -> jax.Array:
        paid = zip(alive, partition, strict=True)
        return sum((jnp.sum(jnp.where(a, costs[name], 0.0)) for a, name in paid), jnp.float32(0))

    keys = [_keys(scores[name]) for name in partition]
    return dict(zip(partition, _prefix(keys, spent, budget), strict=True))


def affordable(partition: Partition, keep: Counts, floor: int) -> None:
    """Raises ValueError where a global selection cannot leave `floor` units in every group."""
    least = sum(floor * group.indices for group in partition.values())
    total = sum(keep[name] * group.indices for name, group in partition.items())
    small = [name for name, group in partition.items() if group.size < floor]
    if small or total < least:
        raise ValueError(
            f"a floor of {floor} units per layer needs {least} units and the density keeps {total}"
            + (f"; fewer units than the floor: {', '.join(small)}" if small else "")
        )


def best(scores: jax.Array, keep: jax.Array | int, batch: int = 0) -> jax.Array:
    """The `keep` largest of `scores`, per index of the first `batch` axes: bool, same shape.

    Exact: ties go to the earlier position. NaN ranks at an end; callers check for it.
    """
    return _best(_keys(scores), keep, batch)


def _best(keys: jax.Array, keep: jax.Array | int, batch: int) -> jax.Array:
    axes = tuple(range(batch, keys.ndim))

    def count(alive: list[jax.Array]) -> jax.Array:
        return jnp.sum(alive[0], axis=axes, keepdims=True, dtype=jnp.int32)

    return _prefix([keys], count, keep, batch)[0]


def _prefix(
    keys: list[jax.Array],
    spent: Callable[[list[jax.Array]], jax.Array],
    budget: jax.Array | float,
    batch: int = 0,
) -> list[jax.Array]:
    """The longest run of units, by falling key and rising position, for which spent <= budget."""
    if not keys:
        return []
    # Zeros of the shape and the sharding of what is spent: a loop carries no other under explicit axes.
    none = jnp.zeros_like(spent([k < 0 for k in keys]), dtype=jnp.uint32)
    level = _largest(lambda t: spent([k >= t for k in keys]) > budget, 32, none)
    positions, size = _positions([k.shape for k in keys], batch)

    def up_to(cut: jax.Array) -> list[jax.Array]:
        pairs = zip(keys, positions, strict=True)
        return [(k > level) | ((k == level) & (position < cut)) for k, position in pairs]

    return up_to(_largest(lambda p: spent(up_to(p)) <= budget, size.bit_length(), none))


def _largest(holds: Callable[[jax.Array], jax.Array], bits: int, start: jax.Array) -> jax.Array:
    """The largest uint32 below 2**bits up to which a property holds, `start` (zeros) where it never does."""

    def step(i: jax.Array, found: jax.Array) -> jax.Array:
        tried = found | (jnp.uint32(1) << (jnp.uint32(bits - 1) - i.astype(jnp.uint32)))
        return jnp.where(holds(tried), tried, found)

    return lax.fori_loop(0, bits, step, start)


def _positions(shapes: list[tuple[int, ...]], batch: int) -> tuple[list[jax.Array], int]:
    """Each unit's position, counted on through all arrays and per index of the batch axes."""
    positions, first = [], 0
    for shape in shapes:
        position = jnp.full((1,) * len(shape), first, jnp.uint32)
        for axis in range(batch, len(shape)):
            stride = math.prod(shape[axis + 1 :])
            along = [n if a == axis else 1 for a, n in enumerate(shape)]
            position += jnp.arange(0, shape[axis] * stride, stride, dtype=jnp.uint32).reshape(along)
        positions.append(position)
        first += math.prod(shape[batch:])
    return positions, first


def _count(alive: list[jax.Array]) -> jax.Array:
    return sum((jnp.sum(a, dtype=jnp.int32) for a in alive), jnp.int32(0))


def _keys(scores: jax.Array) -> jax.Array:
    """float32 -> uint32 in the same order; -0, +0 and denormals alike, as some programs flush those."""
    scores = scores.astype(jnp.float32)
    zero = jnp.abs(scores) < jnp.finfo(jnp.float32).tiny
    bits = lax.bitcast_convert_type(jnp.where(zero, 0.0, scores), jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(0x80000000))


def _floored(scores: jax.Array, floor: int, batch: int) -> jax.Array:
    """Keys in which each index's `floor` best units stand above all others."""
    keys = _keys(scores)
    return jnp.where(_best(keys, floor, batch), jnp.uint32(0xFFFFFFFF), keys)
