"""Planted answers: a teacher with few live blocks, found again by every method through its real plan."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsity.contract import Method, Signals
from sparsity.methods.grid import grid
from sparsity.methods.magnitude import magnitude
from sparsity.methods.powerprop import powerprop
from sparsity.methods.random import random
from sparsity.methods.sequential_attention import sequential_attention
from sparsity.plan import plans
from sparsity.plan.phases import Plan, parse, walk
from sparsity.target import Target, context_of
from sparsity.units.blocks import Rule, blocks
from sparsity.units.partition import Partition, scale

SEEDS, STEPS, BATCH, EXAMPLES = 10, 300, 64, 512
INPUTS, OUTPUTS, HIDDEN = 24, 16, 16


class Problem(NamedTuple):
    """draw: numbers -> (params, planted mask, x, y). predict: (params, x) -> y."""

    draw: Callable[[np.random.Generator], tuple]
    predict: Callable[[Any, jax.Array], jax.Array]
    target: Target


def teacher(numbers: np.random.Generator, grid: tuple[int, int], block: tuple[int, int], live: int):
    """A mask of `live` units at random places, and weights that are normal where it is 1, else 0."""
    mask = numbers.permutation(np.prod(grid)).reshape(grid) < live
    alive = np.kron(mask, np.ones(block))
    return mask, alive * numbers.normal(size=alive.shape)


def target(draw, rule: Rule, density: str) -> Target:
    params = draw(np.random.default_rng(0))[0]
    return Target.of(blocks(params, (rule,), density=density, at_least=2))


def linear() -> Problem:
    """y = x W + noise, with 6 of the 24 blocks of W alive."""

    def draw(numbers):
        x = numbers.normal(size=(EXAMPLES, INPUTS))
        mask, weights = teacher(numbers, (6, 4), (4, 4), 6)
        y = x @ weights + 0.3 * numbers.normal(size=(EXAMPLES, OUTPUTS))
        return {"params": {"w": 0.1 * numbers.normal(size=(INPUTS, OUTPUTS))}}, mask, x, y

    goal = target(draw, Rule("params/w", (4, 4)), "0.25")
    return Problem(draw, lambda tree, x: x @ tree["params"]["w"], goal)


def two_layers() -> Problem:
    """A network that looks at 2 of 6 groups of inputs; a unit is a group's rows of the first layer."""

    def draw(numbers):
        x = numbers.normal(size=(EXAMPLES, INPUTS))
        mask, first = teacher(numbers, (6, 1), (4, HIDDEN), 2)
        y = np.maximum(x @ first, 0) @ numbers.normal(size=(HIDDEN, 4)) / 6
        inner = {"w": numbers.normal(size=(INPUTS, HIDDEN)) / 10, "b": np.zeros(HIDDEN)}
        outer = {"w": numbers.normal(size=(HIDDEN, 4)) / 2, "b": np.zeros(4)}
        return {"params": {"in": inner, "out": outer}}, mask, x, y

    def predict(tree, x):
        inner, outer = tree["params"]["in"], tree["params"]["out"]
        return jax.nn.relu(x @ inner["w"] + inner["b"]) @ outer["w"] + outer["b"]

    return Problem(draw, predict, target(draw, Rule("params/in/w", (4, HIDDEN)), "1/3"))


PROBLEMS = {"linear": linear(), "two layers": two_layers()}


class Run(NamedTuple):
    """What is trained, and how. The optimiser is plain optax."""

    make: Callable[[Partition], Method]
    plan: Plan
    tx: optax.GradientTransformation
    problem: str = "linear"


class Train(NamedTuple):
    """What a run carries."""

    state: Any
    opt: Any
    step: Any


def recovered(name: str, labels: str = "true") -> int:
    """In how many of the seeds the final mask is the planted one; all seeds go at once."""
    run, (start, restart, tick, advance, final) = RUNS[name], programs(name)
    params, mask, data = drawn(run.problem, labels)
    target, plan = (
        PROBLEMS[run.problem].target,
        parse(run.plan, steps=STEPS, steps_per_epoch=EXAMPLES // BATCH),
    )
    train, ticks = start(params), list(walk(plan))
    for at, until in zip(ticks, [t.step for t in ticks[1:]] + [STEPS], strict=True):
        phase = plan[at.index]
        context = context_of(target, phase, at.share, at.regrow)
        if at.select:
            train = tick(train, data, context)
        if at.event == "enter" and phase.reset == "restarted":
            train = restart(train)
        if until > at.step:
            train = advance(train, data, context, until - at.step, phase.dead)
    (found,) = final(train, context).values()
    assert (train.step == STEPS).all() and found.shape == mask.shape
    return int((found == mask).all(axis=(1, 2)).sum())


@functools.cache
def drawn(problem: str, labels: str):
    """Every seed's parameters, planted mask, and data with its labels true or shuffled."""

    def draw(seed):
        numbers = np.random.default_rng(seed)
        params, mask, x, y = PROBLEMS[problem].draw(numbers)
        return params, mask, (x, y if labels == "true" else numbers.permutation(y))

    drawn = jax.tree.map(lambda *seeds: np.stack(seeds), *map(draw, range(SEEDS)))
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), drawn)


@functools.cache
def programs(name: str):
    """(start, restart, tick, advance, final) of a run: what the trainer does, in plain JAX."""
    run = RUNS[name]
    problem, tx = PROBLEMS[run.problem], run.tx
    partition = problem.target.partition
    method = run.make(partition)

    def loss(params, data, step):
        first = step * BATCH % EXAMPLES
        x, y = (jax.lax.dynamic_slice_in_dim(d, first, BATCH) for d in data)
        return jnp.sum(jnp.square(problem.predict(params, x) - y)) / (2 * BATCH)

    def start(params, seed):
        state = method.init(jax.random.key(seed), params)
        return Train(state, tx.init((state.params, state.gates)), jnp.int32(0))

    def restart(train):
        return train._replace(opt=tx.init((train.state.params, train.state.gates)))

    def signals(train, data, context):
        needs, applied = method.needs, method.apply(train.state, context).params
        grads = [jax.grad(loss)(applied, data, train.step + i) for i in range(needs.batches)]
        mean = lambda trees: jax.tree.map(lambda *g: sum(g) / needs.batches, *trees)
        squares = [jax.tree.map(jnp.square, g) for g in grads] if needs.grads_squared else []
        return Signals(mean(grads) if needs.grads else None, mean(squares) if squares else None)

    def tick(train, data, context):
        state = method.update(train.state, context, signals(train, data, context))
        return train._replace(state=state)

    def buried(state, context, dead):
        if dead == "kept" or not context.masked:
            return state
        masks = method.masks(state, context)
        return state._replace(params=scale(partition, masks, state.params))

    def advance(train, data, context, steps, dead):
        def objective(trained, now):
            state = now.state._replace(params=trained[0], gates=trained[1])
            fit = loss(method.apply(state, context).params, data, now.step)
            return fit + method.penalty(state, context, Signals())

        def one(_, now):
            trained = now.state.params, now.state.gates
            updates, opt = tx.update(jax.grad(objective)(trained, now), now.opt, trained)
            params, gates = optax.apply_updates(trained, updates)
            state = buried(now.state._replace(params=params, gates=gates), context, dead)
            return Train(state, opt, now.step + 1)

        train = train._replace(state=buried(train.state, context, dead))
        return jax.lax.fori_loop(0, steps, one, train)

    def over_seeds(train, data, context, steps, dead):
        one = lambda t, d: advance(t, d, context, steps, dead)
        return jax.vmap(one)(train, data)

    return (
        jax.jit(lambda params: jax.vmap(start)(params, jnp.arange(SEEDS))),
        jax.jit(jax.vmap(restart)),
        jax.jit(jax.vmap(tick, in_axes=(0, 0, None))),
        jax.jit(over_seeds, static_argnums=4),
        jax.vmap(lambda train, context: method.masks(train.state, context), in_axes=(0, None)),
    )


SGD, ADAM = optax.sgd(0.05, 0.9), optax.adam(0.02)
SLOW = optax.sgd(0.02)
# First-order saliency vanishes where the training has converged: it must look early.
EARLY = plans.one_shot(train="5%", finetune="95%")
RUNS = {
    "magnitude, one shot": Run(magnitude, plans.one_shot(), SGD),
    "magnitude, gradual": Run(magnitude, plans.gradual(every="5%"), SGD),
    "AC/DC": Run(magnitude, plans.acdc(), SGD),
    "powerprop by block": Run(powerprop, plans.one_shot(), SGD),
    "powerprop by weight": Run(partial(powerprop, form="weight"), plans.one_shot(), SGD),
    "sequential attention": Run(sequential_attention, plans.sequential_attention(), ADAM),
    "sequential attention, clipped": Run(
        partial(sequential_attention, clip=True), plans.sequential_attention(), ADAM
    ),
    "l1": Run(partial(grid, score="l1"), plans.gradual(every="5%"), SGD),
    "max": Run(partial(grid, score="max"), plans.gradual(every="5%"), SGD),
    "saliency": Run(partial(grid, score="saliency", batches=4), EARLY, SLOW),
    "fisher": Run(partial(grid, score="fisher", batches=4), plans.gradual(every="5%"), SGD),
    "hoff, decayed": Run(
        partial(grid, mask="hoff", score="attention", mask_penalty="l2", strength=0.01),
        plans.gradual(every="5%"),
        ADAM,
    ),
    "exponential": Run(
        partial(grid, mask="exponential", score="attention"), plans.gradual(every="5%"), ADAM
    ),
    "sigmoid with l2": Run(partial(grid, mask="sigmoid"), plans.gradual(every="5%"), ADAM),
    "random": Run(random, plans.gradual(every="5%"), SGD),
    "two layers, magnitude": Run(magnitude, plans.gradual(every="5%"), ADAM, "two layers"),
    "two layers, attention": Run(
        sequential_attention, plans.sequential_attention(), ADAM, "two layers"
    ),
}


@pytest.mark.parametrize("name", [name for name in RUNS if name != "random"])
def test_a_planted_mask_is_found_again(name):
    assert recovered(name) >= 9


def test_random_scores_find_nothing():
    assert recovered("random") <= 1


@pytest.mark.parametrize(
    "name", ("magnitude, gradual", "sequential attention", "two layers, magnitude")
)
def test_shuffled_labels_hide_the_mask(name):
    assert recovered(name, "shuffled") < 9
