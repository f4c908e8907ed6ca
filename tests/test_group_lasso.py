"""The group lasso has one optimum, by a solver written for this test, and every way to it ends there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.contract import Context, Signals, chain
from sparsity.families import decayed, gated, penalised, proximal_step
from sparsity.gates import hoff
from sparsity.methods.powerprop import reparametrisation
from sparsity.penalties import identity, log1p, power
from sparsity.plan.phases import Kind
from sparsity.units.partition import Group, View

KEY = jax.random.key(0)
DENSE = Context(Kind("dense"), keep={"w": jnp.int32(4)}, target={"w": jnp.int32(4)})
COLUMNS = {"w": Group((4,), (View("w", (8,), ((0,),), (2,)),))}
LASSO = 0.6


def least_squares():
    """A small random problem min |X w - y|^2 / 2 of four groups of two, of which two are needed."""
    numbers = np.random.default_rng(4)
    x = numbers.normal(size=(30, 8)) / np.sqrt(30)
    w = np.array([2.0, -1, 0, 0, 0.9, 1.2, 0, 0])
    return x, x @ w + 0.1 * numbers.normal(size=30)


def fit(w):
    x, y = least_squares()
    return jnp.sum(jnp.square(jnp.asarray(x, jnp.float32) @ w - jnp.asarray(y, jnp.float32))) / 2


def group_lasso(strength: float) -> np.ndarray:
    """Proximal gradient descent in float64, written for this test alone."""
    x, y = least_squares()
    w, rate = np.zeros(8), 1 / np.linalg.norm(x, 2) ** 2
    for _ in range(5000):
        v = (w - rate * x.T @ (x @ w - y)).reshape(4, 2)
        sizes = np.linalg.norm(v, axis=1, keepdims=True)
        w = (v * np.maximum(1 - rate * strength / np.maximum(sizes, 1e-30), 0)).ravel()
    return w


def lasso_value(w, strength=LASSO):
    w = jnp.asarray(w, jnp.float32)
    return float(fit(w) + strength * jnp.linalg.norm(w.reshape(4, 2), axis=1).sum())


def trained(method, start, steps=6000, rate=0.2, prox=None):
    """Gradient descent of the fit and the method's penalty; the rate falls to 0 along a cosine."""
    state = method.init(KEY, {"w": jnp.asarray(start, jnp.float32)})

    def loss(leaves):
        now = state._replace(params=leaves[0], gates=leaves[1])
        applied = method.apply(now, DENSE).params["w"]
        return fit(applied) + method.penalty(now, DENSE, Signals())

    def step(leaves, i):
        size = rate * (1 + jnp.cos(jnp.pi * i / steps)) / 2
        moved = jax.tree.map(lambda w, g: w - size * g, leaves, jax.grad(loss)(leaves))
        return (prox(moved[0], size), moved[1]) if prox else moved, None

    run = jax.jit(lambda leaves: jax.lax.scan(step, leaves, jnp.arange(steps))[0])
    params, gates = run((state.params, state.gates))
    return method.apply(state._replace(params=params, gates=gates), DENSE).params["w"]


START = np.random.default_rng(0).normal(size=8)
WAYS = {
    "plain": (penalised(COLUMNS, identity, LASSO), None),
    "outer": (penalised(COLUMNS, identity, LASSO, "outer"), None),
    "hoff product": (decayed(gated(COLUMNS, hoff()), COLUMNS, LASSO / 2), None),
    "proximal": (chain(), proximal_step(COLUMNS, identity, LASSO)),
    # (lambda/2) |V|^2 of block PowerPropagation is the group lasso at lambda/2.
    "block powerprop": (
        decayed(reparametrisation(COLUMNS, 2.0, "block"), COLUMNS, LASSO),
        None,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_the_group_lasso_reaches_its_optimum(way):
    best = group_lasso(LASSO)
    assert (best.reshape(4, 2) != 0).any(axis=1).tolist() == [True, False, True, False]
    method, prox = WAYS[way]
    found = trained(method, START, prox=prox)
    assert lasso_value(found) <= lasso_value(best) + 1e-4
    np.testing.assert_allclose(found, best, atol=5e-3)
    if prox:
        assert (found.reshape(4, 2)[1::2] == 0).all()


def test_an_l1_penalty_on_the_hoff_factor_is_the_power_of_two_thirds():
    """Lemma 2.2: lambda (||w||_1 + ||beta||^2) is (3/2) 2^(1/3) lambda sum ||u||^(2/3)."""
    method = decayed(gated(COLUMNS, hoff()), COLUMNS, 0.1, 1)
    found = trained(method, START)
    weight = 1.5 * 2 ** (1 / 3) * 0.1
    explicit = trained(chain(), START, prox=proximal_step(COLUMNS, power(2 / 3), weight))

    def value(u):
        return float(fit(u) + weight * (jnp.linalg.norm(u.reshape(4, 2), axis=1) ** (2 / 3)).sum())

    assert abs(value(found) - value(explicit)) < 1e-3
    np.testing.assert_allclose(found, explicit, atol=0.02)


def test_just_below_the_threshold_the_outer_penalty_has_the_optimum_of_the_group_lasso():
    """Theorem 1.1: where the group lasso keeps one group, q^-1 of the sum has the same minimum."""
    x, y = least_squares()
    tau = np.linalg.norm((x.T @ y).reshape(4, 2), axis=1).max()
    best = group_lasso(0.97 * tau)
    assert (best.reshape(4, 2) != 0).any(axis=1).sum() == 1
    floor = lasso_value(best, 0.97 * tau)
    for q in (log1p, power(0.5)):
        method = penalised(COLUMNS, q, float(0.97 * tau), "outer")
        value = lambda w, m=method: float(
            fit(w) + m.penalty(m.init(KEY, {"w": w}), DENSE, Signals())
        )
        assert abs(value(jnp.asarray(best, jnp.float32)) - floor) < 1e-5
        for seed in range(3):
            start = 0.3 * np.random.default_rng(seed).normal(size=8)
            found = trained(method, start, steps=1500, rate=0.05)
            assert value(found) >= floor - 1e-5
