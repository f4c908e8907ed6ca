"""Accumulated gradients: small batches move as the large one that they make up, on live blocks too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsity.methods.magnitude import magnitude
from sparsity.plan.phases import phase
from sparsity.train import agenda, execution
from sparsity.train.loop import fit
from sparsity.train.optimizer import optimizer
from tests.train.executed import FIRST, SECOND, fresh, setting

TIMES = 4
CLIPPED = {"clip": 0.3, "weight_decay": 1e-2, "gates_weight_decay": 0.1}
OPTIMISERS = {
    "sgd": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True, **CLIPPED},
    "adamw": {"name": "adamw", "learning_rate": 0.01, **CLIPPED},
    "lamb": {"name": "lamb", "learning_rate": 0.01, **CLIPPED},
}


def examples(count):
    draw = np.random.default_rng(0)
    return draw.normal(size=(count, 6)).astype("f"), draw.normal(size=(count, 3)).astype("f")


def loss(tree, x, y):
    return jnp.mean((jnp.tanh(x @ tree["params"]["kernel"]) * tree["gates"] - y) ** 2)


def moved(settings, batch, accumulate):
    """The trained tree, and how much it moved by, after each batch of an epoch of 96 examples."""
    tree = {"params": {"kernel": jnp.ones((6, 3)) / 2}, "gates": jnp.ones(3)}
    x, y = (part.reshape(-1, batch, part.shape[-1]) for part in examples(96))
    tx = optimizer(steps=len(x), accumulate=accumulate, **settings)
    state, found = tx.init(tree), []
    step = jax.jit(lambda t, s, x, y: tx.update(jax.grad(loss)(t, x, y), s, t))
    for rows in zip(x, y, strict=True):
        updates, state = step(tree, state, *rows)
        tree = optax.apply_updates(tree, updates)
        found.append(float(optax.tree.norm(updates)))
    return tree, found


@pytest.mark.parametrize("name", OPTIMISERS)
def test_small_batches_move_as_the_large_one_that_they_make_up(name):
    large, whole = moved(OPTIMISERS[name], 32, 1)
    small, parts = moved(OPTIMISERS[name], 32 // TIMES, TIMES)
    np.testing.assert_allclose(parts[TIMES - 1 :: TIMES], whole, rtol=1e-5)
    assert all(size == 0 for i, size in enumerate(parts) if (i + 1) % TIMES)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), small, large)


def pruned_at(share, reset="kept", **settings):
    """A plan that prunes after a share of 60 steps and brings nothing back, and its optimiser."""
    rest = phase("finetune", f"{100 - share}%", reset=reset)
    optimiser = {"accumulate": 2, "clip": 0.05, **settings}
    return phase("dense", f"{share}%") + rest, optimiser


@pytest.mark.slow  # its quick sibling reads the choice below
def test_live_blocks_are_clipped_by_what_was_accumulated_of_dead_ones_too():
    # 15 steps are seven updates and half of the eighth.
    plan, optimiser = pruned_at(25)
    ends = []
    for mode in ("masked", "sparse"):
        run, _ = setting(magnitude, plan, mode, **optimiser)
        state = fit(run, fresh(run))
        ends.append(run.programs.method.apply(state.wrapped, agenda.entered(run, 1).context).params)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5)
    jax.tree.map(close, *ends)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (pruned_at(25), "begins within an accumulation of 2 steps, whose norm for the clip counts"),
        (pruned_at(50), ""),
        (pruned_at(25, reset="restarted"), ""),
        (pruned_at(25, clip=None), ""),
    ],
)
def test_weights_are_packed_where_the_clip_sees_no_dead_gradient(plan, words):
    run, _ = setting(magnitude, plan[0], "sparse", **plan[1])
    found = execution.choices(run.programs.execution, run.target, run.plan, 1)
    assert [found[name].way.packed for name in (FIRST, SECOND)] == [not words] * 2
    assert all(words in choice.why for choice in found.values())
