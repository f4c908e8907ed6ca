"""The families that most methods are made of: hard, gated, reparametrised, penalised."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sparsity.contract import Applied, Context, Method, Needs, Signals, State
from sparsity.gates import Gate
from sparsity.named import choose
from sparsity.penalties import Q, outer, plain, shrinkage
from sparsity.units import masks as selections
from sparsity.units.partition import Partition, Tree, Units, leaves, scale, sealed
from sparsity.units.scores import Score, norms

Select = Callable[[Partition, Units, Mapping[str, Any]], Units]


class Pruned(NamedTuple):
    """Memory of a method that selects: masks per unit (bool), and the data of the key of its draws."""

    masks: Units
    key: jax.Array


def selection(name: str, floor: int = 1) -> Select:
    """per_group, or globally with at least `floor` units of each group."""
    options: dict[str, Select] = {
        "per_group": selections.per_group,
        "globally": functools.partial(selections.globally, floor=floor),
    }
    return choose("selection", name, options)


def hard(
    partition: Partition,
    score: Score,
    select: Select = selections.per_group,
    batches: int = 1,
) -> Method:
    """Scores units and keeps the best: a 0/1 mask that is not differentiated.

    batches: how many are averaged for a score that reads gradients.
    """

    def init(key: jax.Array, params: Any) -> State:
        return State(params, memory=_all_alive(partition, key))

    def apply(state: State, context: Context) -> Applied:
        if not context.masked or context.unspread:
            return Applied(state.params)
        # Where dead weights are 0 already, a masked copy of the weights would be a pass for nothing.
        mask = sealed if context.zeroed else scale
        return Applied(mask(partition, state.memory.masks, state.params))

    def update(state: State, context: Context, signals: Signals) -> State:
        key = jax.random.wrap_key_data(state.memory.key)
        scores = score.value(partition, state.params, signals.grads, signals.grads_squared, key)
        return state._replace(memory=_selected(partition, scores, select, state.memory, context))

    reads = score.grads or score.grads_squared
    needs = Needs(batches if reads else 0, score.grads, score.grads_squared)
    return Method(init, apply, update=update, masks=lambda s, c: s.memory.masks, needs=needs)


def gated(
    partition: Partition,
    gate: Gate,
    select: Select | None = selections.per_group,
    start_spread: float = 0.0,
) -> Method:
    """Learns one number per unit, multiplies the unit with what it becomes, and keeps the best numbers.

    select: None leaves the selection to a later member of a chain. start_spread: standard deviation of
    a normal draw that is added to the gates' start.
    """

    def started(key: jax.Array, grid: tuple[int, ...]) -> jax.Array:
        level = jnp.full(grid, gate.start, jnp.float32)
        # A draw costs a compilation per shape, too much to multiply by 0.
        return level + start_spread * jax.random.normal(key, grid) if start_spread else level

    def init(key: jax.Array, params: Any) -> State:
        keys = jax.random.split(key, len(partition) + 1)
        named = zip(partition.items(), keys[1:], strict=True)
        gates = {name: started(k, group.grid) for (name, group), k in named}
        return State(params, gates, _all_alive(partition, keys[0]) if select else ())

    def multipliers(state: State, context: Context) -> Units:
        return {
            name: gate.multiplier(
                state.gates[name], group.batch, _target(context, name, group.size)
            )
            for name, group in partition.items()
        }

    def apply(state: State, context: Context) -> Applied:
        soft = multipliers(state, context)
        if context.unspread:
            return Applied(state.params, multipliers=soft, scales=soft)
        hard = soft
        if select and context.masked:
            # One spread for both: the mask is multiplied in unit space.
            alive = state.memory.masks
            hard = {name: jnp.where(alive[name], soft[name], 0.0) for name in soft}
        return Applied(scale(partition, hard, state.params), multipliers=soft)

    def update(state: State, context: Context, signals: Signals) -> State:
        if not select:
            return state
        scores = {name: gate.rank(numbers) for name, numbers in state.gates.items()}
        return state._replace(memory=_selected(partition, scores, select, state.memory, context))

    masks = (lambda s, c: s.memory.masks) if select else (lambda s, c: {})
    return Method(init, apply, update=update, masks=masks)


def reparametrised(
    into: Callable[[Tree], Tree], out_of: Callable[[Tree], Tree], absorbs_zero: bool = True
) -> Method:
    """Trains `into(params)` and runs the model with `out_of` it; out_of(into(w)) == w."""
    return Method(
        init=lambda key, params: State(into(params)),
        apply=lambda state, context: Applied(out_of(state.params)),
        absorbs_zero=absorbs_zero,
    )


def penalised(partition: Partition, q: Q, strength: float, form: str = "plain") -> Method:
    """Adds strength * sum q(||W_b||) ("plain") or strength * q^-1(sum q(||W_b||)) ("outer") to the loss.

    The sum inside q^-1 is over a group, and per independent index.
    """
    batch = {name: group.batch for name, group in partition.items()}
    forms = {"plain": plain, "outer": functools.partial(outer, batch=batch)}
    total = choose("form of a penalty", form, forms)

    def penalty(state: State, context: Context, signals: Signals) -> jax.Array:
        return strength * total(q, norms(partition, state.params))

    return Method(penalty=penalty)


def decayed(method: Method, partition: Partition, strength: float, order: int = 2) -> Method:
    """The method with strength * (||w||^2 or ||w||_1, plus ||beta||^2) added to its penalty.

    w are the gates and beta the gated weights (section 2 of arXiv 2402.17902). With order 2 the Hoff
    product at lambda/2 is the group lasso at lambda, and the exponential at lambda is Lemma 2.1; with
    order 1 the Hoff product is Lemma 2.2.
    """
    size = jnp.square if order == 2 else jnp.abs

    def penalty(state: State, context: Context, signals: Signals) -> jax.Array:
        found = leaves(state.params)
        paths = [view.path for group in partition.values() for view in group.gated]
        terms = [jnp.sum(size(w)) for w in jax.tree.leaves(state.gates)]
        terms += [jnp.sum(jnp.square(found[path])) for path in paths]
        return method.penalty(state, context, signals) + strength * sum(terms, jnp.float32(0.0))

    return method._replace(penalty=penalty)


def proximal_step(partition: Partition, q: Q, strength: float) -> Callable[[Tree, Any], Tree]:
    """(params, step size) -> the proximal step of strength * sum q(||W_b||), for the optimiser's end."""

    def step(params: Tree, size: Any) -> Tree:
        return scale(partition, shrinkage(q, norms(partition, params), size * strength), params)

    return step


def _all_alive(partition: Partition, key: jax.Array) -> Pruned:
    alive = {name: jnp.ones(group.grid, bool) for name, group in partition.items()}
    return Pruned(alive, jax.random.key_data(key))


def _selected(
    partition: Partition, scores: Units, select: Select, memory: Pruned, context: Context
) -> Pruned:
    eligible = {
        # Where nothing may regrow, the dead rank below everything that lives.
        name: jnp.where(memory.masks[name] | context.regrow, score, -jnp.inf)
        for name, score in scores.items()
    }
    return memory._replace(masks=select(partition, eligible, context.keep))


def _target(context: Context, name: str, size: int) -> jax.Array:
    return jnp.asarray(context.target.get(name, size), jnp.float32) / size
