"""Laws of the transform that is built from settings."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsity import named
from sparsity.train.optimizer import optimizer, phase_scaled, schedule
from tests.train.transforms import tree_of

RANKS: Any = {
    "params": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
    "gates": {"a": jnp.ones(2)},
}


def _build(name="sgd", *, schedule="constant", **settings) -> Any:
    settings = {"learning_rate": 0.1, "steps": 20, **settings}
    return optimizer(name=name, schedule=schedule, **settings)


def _follow(tx, tree, steps, **extra):
    """The trained tree after some steps on gradients that depend on it."""

    @jax.jit
    def step(tree, state):
        grads = jax.tree.map(lambda x: jnp.sin(3 * x) + 0.1, tree)
        updates, state = tx.update(grads, state, tree, **extra)
        return optax.apply_updates(tree, updates), state

    state = tx.init(tree)
    for _ in range(steps):
        tree, state = step(tree, state)
    return tree


def _of_rank_2(tree):
    return jax.tree.map(lambda x: x.ndim >= 2, tree)


@pytest.mark.parametrize(
    "settings, theirs",
    [
        ({"name": "sgd"}, optax.sgd(0.1)),
        ({"name": "sgd", "momentum": 0.9, "nesterov": True}, optax.sgd(0.1, 0.9, nesterov=True)),
        ({"name": "adam"}, optax.adam(0.1)),
        ({"name": "adam", "nesterov": True, "b2": 0.99}, optax.nadam(0.1, b2=0.99)),
        (
            {"name": "adamw", "weight_decay": 0.2},
            optax.adamw(0.1, weight_decay=0.2, mask=_of_rank_2),
        ),
        ({"name": "rmsprop", "momentum": 0.9}, optax.rmsprop(0.1, momentum=0.9)),
        ({"name": "lion", "weight_decay": 0.2}, optax.lion(0.1, weight_decay=0.2, mask=_of_rank_2)),
        ({"name": "adafactor", "momentum": 0.9}, optax.adafactor(0.1, momentum=0.9)),
        ({"name": "lamb", "weight_decay": 0.2}, optax.lamb(0.1, weight_decay=0.2, mask=_of_rank_2)),
    ],
    ids=lambda case: case.get("name") if isinstance(case, dict) else "",
)
def test_without_gates_each_is_the_optimiser_of_optax(settings, theirs):
    ours = _follow(_build(**settings), tree_of(False), 4)
    for a, b in zip(*map(jax.tree.leaves, (ours, _follow(theirs, tree_of(False), 4))), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_sgd_decays_the_gradient_before_the_momentum():
    tx = _build("sgd", momentum=0.9, weight_decay=0.5)
    weight, buffer = np.full((2, 3), 2.0), 0.0
    tree, state = {"params": {"kernel": jnp.asarray(weight)}, "gates": ()}, None
    state = tx.init(tree)
    for grad in (1.0, -2.0, 0.5):
        updates, state = tx.update(jax.tree.map(lambda x, g=grad: x * 0 + g, tree), state, tree)
        tree = optax.apply_updates(tree, updates)
        buffer = 0.9 * buffer + grad + 0.5 * weight
        weight = weight - 0.1 * buffer
        np.testing.assert_allclose(tree["params"]["kernel"], weight, rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion", "adafactor", "lamb"])
@pytest.mark.parametrize("gates", [None, 0.0, 0.25])
def test_matrices_decay_and_gates_by_their_own_strength_but_no_vector_of_params(name, gates):
    tx = _build(name, weight_decay=0.5, gates_weight_decay=gates)
    nothing = jax.tree.map(jnp.zeros_like, RANKS)
    updates, _ = tx.update(nothing, tx.init(RANKS), RANKS)
    assert updates["params"]["kernel"].all() and not updates["params"]["bias"].any()
    assert updates["gates"]["a"].any() == (gates != 0)
    if name == "sgd":
        own = 0.5 if gates is None else gates
        np.testing.assert_allclose(updates["gates"]["a"], -0.1 * own * RANKS["gates"]["a"])


@pytest.mark.parametrize("name", ["sgd", "adam", "adafactor", "lamb"])
def test_gates_have_a_learning_rate_of_their_own(name):
    updates = {}
    for factor in (1.0, 0.25, 0.0):
        tx = _build(name, gates_learning_rate=factor)
        updates[factor], _ = tx.update(RANKS, tx.init(RANKS), RANKS)
        np.testing.assert_array_equal(
            updates[factor]["params"]["kernel"], updates[1.0]["params"]["kernel"]
        )
        np.testing.assert_allclose(
            updates[factor]["gates"]["a"], factor * updates[1.0]["gates"]["a"], rtol=1e-6
        )


@pytest.mark.parametrize("name", ["adafactor", "lamb"])
def test_gates_at_zero_move_like_gates_anywhere(name):
    tx = _build(name)
    still = RANKS | {"gates": {"a": jnp.zeros(2)}}
    at_zero, _ = tx.update(RANKS, tx.init(still), still)
    at_one, _ = tx.update(RANKS, tx.init(RANKS), RANKS)
    np.testing.assert_array_equal(at_zero["gates"]["a"], at_one["gates"]["a"])
    assert at_zero["gates"]["a"].all()


def test_the_clip_bounds_the_norm_of_params_and_gates_together():
    tx = _build("sgd", learning_rate=1.0, clip=0.5)
    updates, _ = tx.update(RANKS, tx.init(RANKS), RANKS)
    assert float(optax.tree.norm(updates)) == pytest.approx(0.5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_phase_scales_the_learning_rate_without_a_compilation(accumulate):
    tx, traces = _build("adam", accumulate=accumulate, prox=lambda tree, size: tree), []

    @jax.jit
    def step(state, lr_factor):
        traces.append(None)
        return tx.update(RANKS, state, RANKS, lr_factor=lr_factor)

    state = tx.init(RANKS)
    for _ in range(accumulate - 1):
        _, state = step(state, 1.0)
    whole, half = (step(state, factor)[0]["params"]["kernel"] for factor in (1.0, 0.5))
    assert whole.all() and len(traces) == 1
    np.testing.assert_allclose(half, whole / 2, rtol=1e-6)
    plain, _ = tx.update(RANKS, state, RANKS)
    np.testing.assert_allclose(plain["params"]["kernel"], whole, rtol=1e-6)


def test_accumulated_gradients_are_averaged_and_the_schedule_counts_calls():
    settings = {"schedule": "cosine", "steps": 8, "warmup": 2}
    tx, rate = _build("sgd", accumulate=2, **settings), schedule(learning_rate=0.1, **settings)
    state, sizes, update = tx.init(RANKS), [], jax.jit(tx.update)
    for i in range(8):
        grads = jax.tree.map(lambda x, i=i: x * i, RANKS)
        updates, state = update(grads, state, RANKS)
        sizes.append(float(updates["params"]["bias"][0]))
    assert sizes[::2] == [0.0] * 4
    mean = np.array([0.5, 2.5, 4.5, 6.5])
    np.testing.assert_allclose(
        sizes[1::2], -mean * [float(rate(i)) for i in (0, 2, 4, 6)], rtol=1e-5
    )


def test_a_phase_scale_alone_multiplies():
    tx = phase_scaled()
    updates, _ = tx.update({"w": jnp.full(2, 3, jnp.bfloat16)}, tx.init(None), lr_factor=0.5)
    assert updates["w"].dtype == jnp.bfloat16 and (updates["w"] == 1.5).all()


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"name": "adamm"},
            "did you mean 'adam'.*sgd, adam, adamw, rmsprop, lion, adafactor, lamb",
        ),
        ({"momentun": 0.9}, "did you mean 'momentum'.*learning_rate.*accumulate"),
        ({"name": "adam", "momentum": 0.9}, "adam has no use for it.*b1, b2, eps, nesterov"),
        ({"b1": 0.9}, "sgd has no use for it.*momentum, nesterov"),
        ({"nesterov": True}, "expected a momentum above 0"),
        ({"weight_decay": -1e-4}, "weight_decay=-0.0001"),
        ({"gates_learning_rate": -1.0}, "gates_learning_rate=-1.0"),
        ({"clip": 0.0}, "clip=0.0"),
        ({"accumulate": 0}, "accumulate=0"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_settings_that_make_no_optimiser_are_errors(settings, message):
    settings = {"name": "sgd", "learning_rate": 0.1, "steps": 10, **settings}
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        named.call("the optimizer", optimizer, settings=settings)
