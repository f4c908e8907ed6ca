"""Laws of the proximal step that ends an optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsity.train import moments
from sparsity.train.optimizer import optimizer, proximal

TREE = {"params": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "gates": ()}


def _soft(x, by):
    return np.sign(x) * np.maximum(np.abs(x) - by, 0)


def _grouped(x, by):
    """Groups of 2 rows, shrunk in norm."""
    norms = jnp.linalg.norm(x.reshape(-1, 2), axis=1, keepdims=True)
    factor = jnp.maximum(1 - by / jnp.maximum(norms, 1e-12), 0)
    return (x.reshape(-1, 2) * factor).reshape(-1)


def _solve(design, target, prox, *, schedule="constant", **settings):
    """Proximal gradient descent on |design w - target|^2 / 2 + penalty."""
    tx = optimizer(name="sgd", prox=prox, schedule=schedule, **settings)
    tree = {"params": {"w": jnp.zeros(design.shape[1])}, "gates": ()}

    def step(carry, _):
        tree, state = carry
        grads = jax.grad(lambda t: jnp.sum((design @ t["params"]["w"] - target) ** 2) / 2)(tree)
        updates, state = tx.update(grads, state, tree, lr_factor=0.7)
        return (optax.apply_updates(tree, updates), state), None

    (tree, _), _ = jax.lax.scan(step, (tree, tx.init(tree)), None, length=settings["steps"])
    return np.asarray(tree["params"]["w"])


def _on_weights(prox):
    return lambda tree, size: tree | {"params": {"w": prox(tree["params"]["w"], size)}}


SOFT = _on_weights(lambda w, size: jnp.sign(w) * jnp.maximum(jnp.abs(w) - 0.8 * size, 0))
GROUP = _on_weights(lambda w, size: _grouped(w, 0.8 * size))


@pytest.mark.parametrize("schedule", ["constant", "linear"])
@pytest.mark.parametrize("penalty", ["lasso", "group"])
def test_proximal_descent_reaches_the_closed_form_of_an_orthonormal_design(penalty, schedule):
    rng = np.random.default_rng(0)
    design = np.linalg.qr(rng.normal(size=(30, 10)))[0]
    target = design @ (rng.normal(size=10) * np.repeat([3, 0.1, 0.1, 3, 1], 2))
    projected = design.T @ target
    exact = _soft(projected, 0.8) if penalty == "lasso" else np.asarray(_grouped(projected, 0.8))
    prox = SOFT if penalty == "lasso" else GROUP
    found = _solve(design, target, prox, learning_rate=0.5, steps=200, schedule=schedule)
    np.testing.assert_allclose(found, exact, atol=2e-6)
    assert (exact == 0).sum() >= 4
    assert (found[exact == 0] == 0).all()  # exactly, not nearly


def test_proximal_descent_reaches_the_optimality_conditions_of_any_lasso():
    rng = np.random.default_rng(1)
    design, target = rng.normal(size=(40, 12)) / 6, rng.normal(size=40)
    w = _solve(design, target, SOFT, learning_rate=0.5, steps=2000)
    slope = design.T @ (target - design @ w)
    assert 0 < (w == 0).sum() < 12
    np.testing.assert_allclose(slope[w != 0], 0.8 * np.sign(w[w != 0]), atol=1e-4)
    assert (np.abs(slope[w == 0]) < 0.8).all()


def test_the_step_size_of_a_prox_goes_on_through_a_restart():
    sizes = []
    prox = lambda tree, size: sizes.append(float(size)) or tree
    tx = proximal(prox, optax.linear_schedule(1.0, 0.0, 10))
    state = tx.init(TREE)
    for _ in range(4):
        _, state = tx.update(TREE, moments.restart(tx, state, TREE), TREE, lr_factor=0.5)
    assert sizes == pytest.approx([0.5, 0.45, 0.4, 0.35])


def test_a_prox_needs_the_parameters():
    tx = proximal(lambda tree, size: tree, lambda count: 0.1)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(TREE, tx.init(TREE))
