"""The optax transforms over which the laws of the optimiser's memory are tested, and short runs of them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from sparsity.train import moments
from sparsity.train.optimizer import optimizer, proximal

COSINE = optax.cosine_decay_schedule(0.1, 50)
BY_TOP = {"params": "weights", "gates": "gates"}
ADAM_COUNTED = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(COSINE))


def _shrink(tree, step_size):
    return jax.tree.map(lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - step_size / 9, 0), tree)


def _not_every_third(step, **extra) -> Any:
    return step % 3 != 0


def _multi_steps(tx, every):
    return optax.MultiSteps(tx, every).gradient_transformation()


# A transform, and the only leaves of its state that outlive a restart.
TABLE: dict[str, tuple[Any, list[str]]] = {
    "sgd": (optax.sgd(COSINE), ["[1].count"]),
    "momentum": (optax.sgd(0.1, momentum=0.9), []),
    "nesterov": (optax.sgd(COSINE, momentum=0.9, nesterov=True), ["[1].count"]),
    "adam": (optax.adam(0.1), []),
    "adamw": (optax.adamw(COSINE), ["[2].count"]),
    "rmsprop": (optax.rmsprop(0.1, centered=True, momentum=0.9), []),
    "lion": (optax.lion(COSINE), ["[2].count"]),
    "adafactor": (optax.adafactor(COSINE, momentum=0.9), ["[2].count"]),
    "lamb": (optax.lamb(0.1), []),
    "adagrad": (optax.adagrad(0.1), []),
    "amsgrad": (optax.amsgrad(0.1), []),
    "sm3": (optax.sm3(0.1), []),
    "multi_steps": (
        _multi_steps(optax.adam(COSINE), 2),
        [".gradient_step", ".inner_opt_state[1].count", ".mini_step"],
    ),
    "inject": (
        optax.inject_hyperparams(optax.adam)(COSINE),
        [".count", ".hyperparams['learning_rate']", ".hyperparams_states['learning_rate'].count"],
    ),
    "multi_transform": (
        optax.multi_transform(
            {"weights": optax.adam(COSINE), "gates": optax.sgd(0.1, momentum=0.9)}, BY_TOP
        ),
        [".inner_states['weights'].inner_state[1].count"],
    ),
    "gates_set_to_zero": (
        optax.multi_transform({"weights": optax.adam(0.1), "gates": optax.set_to_zero()}, BY_TOP),
        [],
    ),
    "clipped": (
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(COSINE)),
        ["[1][2].count"],
    ),
    "plateau": (
        optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau(patience=2)),
        ["[1].best_value", "[1].scale"],
    ),
    "if_finite": (optax.apply_if_finite(optax.adam(COSINE), 3), [".inner_state[1].count"]),
    "conditional": (
        optax.transforms.conditionally_transform(ADAM_COUNTED, _not_every_third),
        [".inner_state[1].count", ".step"],
    ),
    "scheduled_decay": (
        optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(COSINE), optax.sgd(0.1)),
        ["[1].count"],
    ),
    "proximal": (
        optax.chain(optax.sgd(0.1, momentum=0.9), proximal(_shrink, COSINE)),
        ["[1].count"],
    ),
    "schedule_free": (
        optax.contrib.schedule_free(optax.sgd(0.1), optax.warmup_constant_schedule(0, 0.1, 9)),
        [".step_count"],
    ),
    "of_settings": (
        optimizer(name="adamw", learning_rate=0.1, steps=50, warmup=3, prox=_shrink, accumulate=2),
        [".gradient_step", ".inner_opt_state[3].count", ".inner_opt_state[5].count", ".mini_step"],
    ),
}


def tree_of(gates) -> Any:
    """Dense with a bias, a norm and an embedding that Adafactor factors."""
    keys = iter(jax.random.split(jax.random.key(0), 5))
    layers = {
        "dense": {"kernel": (8, 6), "bias": (6,)},
        "norm": {"scale": (6,)},
        "embed": {"embedding": (130, 128)},
    }

    def draw(shape):
        return jax.random.normal(next(keys), shape)

    params = {name: {n: draw(s) for n, s in leaf.items()} for name, leaf in layers.items()}
    logits = {"params/dense/kernel": draw((2, 3))} if gates else ()
    return {"params": {"params": params}, "gates": logits}


@functools.cache
def stepper(name):
    tx, traces = optax.with_extra_args_support(TABLE[name][0]), []

    @jax.jit
    def step(tree, state, pull):
        traces.append(None)
        grads = jax.tree.map(lambda x: x - pull, tree)
        # The loss grows, so that what waits for a plateau finds one.
        updates, state = tx.update(grads, state, tree, value=pull)
        return optax.apply_updates(tree, updates), state, updates

    return step, traces


def run(name, steps, restarts=()):
    tx, tree = TABLE[name][0], tree_of(True)
    state = jax.jit(tx.init)(tree)
    for i in range(steps):
        if i in restarts:
            state = moments.restart(tx, state, tree)
        tree, state, _ = stepper(name)[0](tree, state, 1.0 + i)
    return tree, state


@functools.cache
def used(name):
    """After 5 steps: odd, so that an accumulation is under way."""
    return run(name, 5)


def leaves(tree):
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(keys): np.asarray(x) for keys, x in found}


def differing(a, b):
    """The paths where any bit differs."""
    return sorted(k for k in a if a[k].tobytes() != b[k].tobytes())
