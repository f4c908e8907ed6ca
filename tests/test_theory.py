"""Numerical checks of what SequentialAttention++ (arXiv 2402.17902) proves: masks are penalties.

The lemmas say that training a mask w beside weights b, u = mask(w) b, with a cost on both is the
same as penalising the norm of u. The loss sees u alone, so each is a statement on one group: the
cost of (w, b) is never below the penalty at u, and equals it at the best way of writing u.
"""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity.penalties import identity, lambert, lambertw, log1p, outer, power, shrinkage

GROUPS, WIDTH = 4, 2


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def hoff(w, b):  # (lambda / 2)(w^2 + ||b||^2): the group lasso
    return w * b, (w**2 + b @ b) / 2


def exponential(w, b):  # Lemma 2.1
    return jnp.exp(w) * b, w**2 + b @ b


def l1_mask(w, b):  # Lemma 2.2
    return w * b, jnp.abs(w) + b @ b


LEMMAS = {  # mask, penalty on a = ||u||, the best w for it
    "Hoff": (hoff, identity.value, jnp.sqrt),
    "2.1": (exponential, lambert.value, lambda a: lambertw(2 * a**2) / 2),
    "2.2": (
        l1_mask,
        lambda a: 1.5 * 2 ** (1 / 3) * power(2 / 3).value(a),
        lambda a: 2 ** (1 / 3) * a ** (2 / 3),
    ),
}
lemmas = pytest.mark.parametrize("name", LEMMAS)
reals = st.floats(-3, 3)


@lemmas
@settings(max_examples=50, deadline=None)
@given(reals, st.tuples(reals, reals))
def test_a_mask_never_costs_less_than_its_penalty(name, w, b):
    mask, penalty, _ = LEMMAS[name]
    u, cost = mask(jnp.asarray(w), jnp.asarray(b))
    assert cost >= penalty(jnp.linalg.norm(u)) - 1e-12


@lemmas
@pytest.mark.parametrize("a", [0.01, 0.2, 1.0, 1.94, 7.0, 100.0])
def test_the_best_mask_costs_its_penalty(name, a):
    mask, penalty, best = LEMMAS[name]
    w = best(jnp.asarray(a))
    u = jnp.asarray([0.6, -0.8]) * a
    b = u / mask(w, jnp.ones(2))[0][0]
    again, cost = mask(w, b)
    np.testing.assert_allclose(again, u, rtol=1e-12)
    assert float(cost) == pytest.approx(float(penalty(jnp.asarray(a))), rel=1e-12)


def test_powerpropagation_pays_the_norm_of_the_block():
    """Lemma 2.3: with u = ||b|| b, the cost ||b||^2 is ||u||."""
    b = jax.random.normal(jax.random.key(0), (20, 3))
    length = jnp.linalg.norm(b, axis=1)
    u = length[:, None] * b
    np.testing.assert_allclose(length**2, jnp.linalg.norm(u, axis=1), rtol=1e-12)


def problem(seed):
    """Least squares with 4 groups of 2: features (12, 8) and target (12,)."""
    x = jax.random.normal(jax.random.key(seed), (12, GROUPS * WIDTH))
    return x, 4 * jax.random.normal(jax.random.key(seed + 1000), (12,))


def loss(u, x, y):
    return 0.5 * jnp.sum((x @ u.ravel() - y) ** 2)


def lengths(u):
    """Norms of the groups, with slope 0 at 0."""
    squares = jnp.sum(u**2, axis=1)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def threshold(x, y):
    """tau = max over groups of ||gradient of the loss at 0||, and the group where it is."""
    slopes = lengths((x.T @ y).reshape(GROUPS, WIDTH))
    return float(slopes.max()), int(slopes.argmax())


@jax.jit
def group_lasso(x, y, strength):
    """The minimiser of loss + strength * sum of norms, by the proximal step of `shrinkage`."""
    rate = 1 / jnp.linalg.norm(x, 2) ** 2

    def step(_, u):
        u = u - rate * jax.grad(loss)(u, x, y)
        return u * shrinkage(identity, {"u": lengths(u)}, rate * strength)["u"][:, None]

    return jax.lax.fori_loop(0, 3000, step, jnp.zeros((GROUPS, WIDTH)))


@partial(jax.jit, static_argnums=0)
def descend(objective, starts, held, *data):
    """The best value of objective(start * held, *data) that gradient descent finds, and where.

    Each start has its own rate, which grows while the value falls and is halved where it does not.
    """
    slope = jax.vmap(jax.value_and_grad(lambda u, s: objective(u * s, *data)))

    def step(_, state):
        u, value, gradient, rate = state
        there, steep = slope(trial := u - rate[:, None, None] * gradient, held)
        falls = there < value
        at = falls[:, None, None]
        rate = jnp.where(falls, 1.2 * rate, rate / 2)
        return (
            jnp.where(at, trial, u),
            jnp.minimum(there, value),
            jnp.where(at, steep, gradient),
            rate,
        )

    state = (starts, *slope(starts, held), jnp.full(len(starts), 1e-3))
    u, value, *_ = jax.lax.fori_loop(0, 2000, step, state)
    best = value.argmin()
    return value[best], u[best] * held[best]


def hoff_network(v, x, y, strength):  # one mask beside each group
    u, cost = jax.vmap(hoff)(v[:, 0], v[:, 1:])
    return loss(u, x, y) + strength * cost.sum()


def powerpropagation_network(b, x, y, strength):
    return loss(lengths(b)[:, None] * b, x, y) + strength * jnp.sum(b**2)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "network, width, folded",
    [
        (hoff_network, WIDTH + 1, lambda v: v[:, :1] * v[:, 1:]),
        (powerpropagation_network, WIDTH, lambda b: lengths(b)[:, None] * b),
    ],
    ids=["Hoff", "PowerPropagation"],
)
def test_training_ends_at_the_group_lasso(network, width, folded, seed):
    x, y = problem(seed)
    strength = 0.4 * threshold(x, y)[0]
    target = group_lasso(x, y, strength)
    assert 0 < int((lengths(target) > 0).sum()) < GROUPS
    starts = jax.random.normal(jax.random.key(seed), (8, GROUPS, width))
    value, found = descend(network, starts, jnp.ones((8, 1, 1)), x, y, strength)
    best = loss(target, x, y) + strength * lengths(target).sum()
    assert float(value) == pytest.approx(float(best), rel=1e-8)
    np.testing.assert_allclose(folded(found), target, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_just_below_the_threshold_the_group_lasso_picks_what_omp_picks(seed):
    """arXiv 2307.07405: nothing at lambda >= tau; just below it, the group of steepest loss."""
    x, y = problem(seed)
    tau, steepest = threshold(x, y)
    assert (group_lasso(x, y, 1.001 * tau) == 0).all()
    alive = lengths(group_lasso(x, y, 0.97 * tau)) > 0
    np.testing.assert_array_equal(alive, np.arange(GROUPS) == steepest)


def objective_of(q):
    """Objective (1) of the paper: loss + lambda q^-1(sum of q(norm))."""
    return lambda u, x, y, strength: loss(u, x, y) + strength * outer(q, {"u": lengths(u)})


OBJECTIVES = {q.name: objective_of(q) for q in (identity, power(0.5), log1p, lambert)}


def best_of_supports(name, seed):
    """The least value of objective (1) at lambda = 0.97 tau, where, and that of the group lasso.

    4 starts within every support: there is a kink wherever a group is 0, none within a support.
    """
    x, y = problem(seed)
    strength = 0.97 * threshold(x, y)[0]
    point = group_lasso(x, y, strength)
    assert (lengths(point) > 0).sum() == 1  # what the theorem asks
    supports = jnp.asarray([s for s in product([0.0, 1.0], repeat=GROUPS) for _ in range(4)])
    starts = jax.random.normal(jax.random.key(seed), (len(supports), GROUPS, WIDTH))
    value, u = descend(OBJECTIVES[name], starts, supports[:, :, None], x, y, strength)
    return float(value), u, float(OBJECTIVES[name](point, x, y, strength)), point


THEOREM = pytest.mark.parametrize("seed", [0, 1, 2])


@THEOREM
@pytest.mark.parametrize("name", ["identity", "power(0.5)", "log1p"])
def test_the_sparse_group_lasso_point_is_the_minimum_for_every_subadditive_q(name, seed):
    """Theorem 1.1."""
    value, u, at_point, point = best_of_supports(name, seed)
    assert value == pytest.approx(at_point, rel=1e-9)
    np.testing.assert_allclose(u, point, atol=1e-3)


@THEOREM
def test_the_theorem_does_not_cover_the_q_behind_exp_masks(seed):
    """It is a^2 near 0, not subadditive: there the same objective prefers several groups."""
    value, u, at_point, _ = best_of_supports("lambert", seed)
    assert value < at_point * (1 - 1e-4)
    assert (lengths(u) > 1e-3).sum() > 1
