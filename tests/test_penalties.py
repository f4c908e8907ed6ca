"""What a penalty promises: order, inverses, exact proximal steps, finite slopes, two lemmas."""

from functools import partial
from operator import attrgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity.penalties import (
    identity,
    lambert,
    lambertw,
    log1p,
    named,
    outer,
    plain,
    power,
    shrinkage,
)

ALL = [identity, power(0.3), power(1 / 2), power(2 / 3), log1p, lambert]
SUBADDITIVE = [q for q in ALL if q is not lambert]
PROXIMAL = [identity, power(1 / 2), power(2 / 3), log1p]
name = attrgetter("name")
each = pytest.mark.parametrize("q", ALL, ids=name)
proximal = pytest.mark.parametrize("q", PROXIMAL, ids=name)

GRID = jnp.concatenate([jnp.zeros(1), jnp.logspace(-4, 1.5, 200)])
norms_of = st.lists(st.floats(0, 4, width=32), min_size=6, max_size=6).map(jnp.array)


@each
def test_q_is_zero_at_zero_and_increases(q):
    assert q.value(jnp.zeros(())) == 0
    assert (jnp.diff(q.value(GRID)) > 0).all()


@each
def test_the_inverse_undoes_q(q):
    np.testing.assert_allclose(q.inverse(q.value(GRID)), GRID, rtol=2e-5)
    with jax.enable_x64(True):
        grid = jnp.asarray(GRID, jnp.float64)
        np.testing.assert_allclose(q.inverse(q.value(grid)), grid, rtol=1e-11)


@pytest.mark.parametrize("q", SUBADDITIVE, ids=name)
def test_q_is_subadditive(q):
    a, b = jnp.meshgrid(GRID, GRID)
    whole, parts = q.value(a + b), q.value(a) + q.value(b)
    assert (whole <= parts * (1 + 1e-5)).all()


def test_the_q_behind_exp_masks_is_not_subadditive_near_zero():
    for a in (0.01, 0.3, 1.0, 1.9):
        assert lambert.value(2.0 * jnp.array(a)) > 2 * lambert.value(jnp.array(a))
    assert lambert.value(jnp.array(4.0)) < 2 * lambert.value(jnp.array(2.0))


def test_lambertw_solves_its_equation():
    with jax.enable_x64(True):
        x = jnp.concatenate([jnp.zeros(1), jnp.logspace(-12, 12, 400)])
        w = lambertw(x)
        np.testing.assert_allclose(w * jnp.exp(w), x, rtol=1e-13)
        slopes = jax.jit(jax.vmap(jax.grad(lambertw)))(x)
        np.testing.assert_allclose(slopes[1:], (w / (x * (1 + w)))[1:], rtol=1e-13)
        assert slopes[0] == 1
        # and once more: W'' = -W'^2 (2 + W) / (1 + W)
        curved = jax.jit(jax.vmap(jax.grad(jax.grad(lambertw))))(x)
        np.testing.assert_allclose(curved, -(slopes**2) * (2 + w) / (1 + w), rtol=1e-12)


@proximal
@pytest.mark.parametrize("t", [0.0, 1e-6, 0.01, 0.3, 1.0, 2.5])
def test_the_prox_is_the_minimum_by_brute_force(q, t):
    with jax.enable_x64(True):
        a = jnp.linspace(0, 6, 121)
        z = jnp.linspace(0, 6, 12001)

        def objective(z, a):
            return (z - a) ** 2 / 2 + t * q.value(z)

        found = jax.jit(q.prox)(a, t)
        best = jax.jit(objective)(z[None], a[:, None]).min(1)
        assert (found >= 0).all()
        # as good as the grid's best point, and the grid, 5e-4 fine, holds none much better
        assert (objective(found, a) <= best + 1e-12).all()
        assert (objective(found, a) >= best - 1e-6).all()


@proximal
def test_the_prox_is_as_good_in_float32(q):
    a, prox = jnp.logspace(-6, 6, 300), jax.jit(q.prox)
    for t in (0.0, 1e-30, 1e-12, 1e-3, 1.0, 1e3):
        single = prox(a, t)
        with jax.enable_x64(True):
            b = jnp.asarray(a, jnp.float64)
            exact = prox(b, t)
            there = (single > 0) == (exact > 0)  # but for one within rounding of the threshold
            np.testing.assert_allclose(single[there], exact[there], rtol=1e-5)
            assert (~there).sum() <= 1
        assert single.dtype == jnp.float32


@proximal
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99), st.sampled_from([0.05, 0.4, 1.1]))
def test_shrinkage_is_the_proximal_step_of_a_group(q, seed, t):
    v = jax.random.normal(jax.random.key(seed), (2,))
    norm = jnp.linalg.norm(v)
    factor = shrinkage(q, {"w": norm[None]}, t)["w"][0]
    side = jnp.linspace(-4, 4, 401)
    points = jnp.stack(jnp.meshgrid(side, side), -1).reshape(-1, 2)
    points = jnp.concatenate([points, jnp.zeros((1, 2)), factor * v[None]])
    lengths = jnp.linalg.norm(points, axis=1)
    objective = ((points - v) ** 2).sum(1) / 2 + t * q.value(lengths)
    assert 0 <= factor <= 1
    assert objective[-1] <= objective.min() + 1e-6


def test_shrinkage_of_the_group_lasso_is_soft_thresholding():
    norms = {"a": jnp.array([[0.0, 0.1], [0.5, 3.0]]), "b": jnp.array([2.0])}
    shrunk = shrinkage(identity, norms, 0.4)
    positive = norms["a"] > 0
    expected = jnp.where(positive, jnp.maximum(0, 1 - 0.4 / norms["a"]), 0)
    np.testing.assert_allclose(shrunk["a"], expected, rtol=1e-6)
    np.testing.assert_allclose(shrunk["b"], [0.8], rtol=1e-6)


def test_a_zero_step_shrinks_nothing_but_what_is_gone():
    for q in PROXIMAL:
        shrink = jax.jit(partial(shrinkage, q))
        factors = shrink({"w": jnp.array([0.0, 1e-20, 1e-3, 1.0, 1e3])}, 0.0)["w"]
        np.testing.assert_allclose(factors, [0, 1, 1, 1, 1], rtol=1e-6)


def test_steps_may_differ_between_units():
    norms, steps = jnp.array([1.0, 1.0, 4.0]), jnp.array([0.0, 0.2, 0.5])
    for q in PROXIMAL:
        shrink = jax.jit(partial(shrinkage, q))
        together = shrink({"w": norms}, steps)["w"]
        apart = [shrink({"w": a}, t)["w"] for a, t in zip(norms, steps, strict=True)]
        np.testing.assert_allclose(together, jnp.stack(apart), rtol=1e-6)


@each
@pytest.mark.parametrize("across", ["group", "all"])
def test_slopes_are_finite_where_units_are_zero(q, across):
    mixed = {"a": jnp.array([0.0, 1e-45, 1e-30, 1.0]), "b": jnp.zeros((2, 2)), "c": jnp.ones(3)}
    gone = jax.tree.map(jnp.zeros_like, mixed)
    for norms in (mixed, gone):
        for penalty in (plain, lambda q, norms: outer(q, norms, across)):
            value, slopes = jax.jit(jax.value_and_grad(partial(penalty, q)))(norms)
            assert jnp.isfinite(value)
            assert value.dtype == jnp.float32
            assert all(jnp.isfinite(s).all() and (s >= 0).all() for s in slopes.values())
    assert plain(q, gone) == outer(q, gone, across) == 0


def test_the_slope_at_zero_is_the_one_that_is_documented():
    slope = {q.name: float(jax.grad(lambda a, q=q: q.value(a))(0.0)) for q in ALL}
    assert slope["identity"] == slope["log1p"] == 1
    assert slope["lambert"] == slope["power(0.3)"] == slope["power(0.5)"] == 0


@each
def test_slopes_are_those_of_differences(q):
    with jax.enable_x64(True):
        norms = {"a": jnp.array([0.3, 1.2, 2.0]), "b": jnp.array([0.7])}
        for penalty in (plain, outer, lambda q, n: outer(q, n, "all")):
            cost = jax.jit(partial(penalty, q))
            slopes = jax.jit(jax.grad(cost))(norms)
            for group, i in (("a", 0), ("a", 2), ("b", 0)):
                step = {
                    g: 1e-6 * (g == group) * (jnp.arange(a.size) == i) for g, a in norms.items()
                }
                up, down = (
                    cost({g: a + sign * step[g] for g, a in norms.items()}) for sign in (1, -1)
                )
                assert float(up - down) / 2e-6 == pytest.approx(float(slopes[group][i]), rel=1e-6)


@pytest.mark.parametrize("q", SUBADDITIVE, ids=name)
@settings(max_examples=25, deadline=None)
@given(norms_of)
def test_outer_is_at_least_the_sum_of_norms(q, norms):
    """Lemma 2.4 of arXiv 2402.17902."""
    assert outer(q, {"w": norms}) >= norms.sum() * (1 - 1e-5)


@each
@settings(max_examples=10, deadline=None)
@given(st.floats(2**-10, 8, width=32), st.integers(0, 5))
def test_outer_is_the_norm_where_one_unit_is_alive(q, norm, position):
    """Lemma 2.5 of arXiv 2402.17902."""
    norms = {"v": jnp.zeros((2, 2)), "w": jnp.zeros(6).at[position].set(norm)}
    for across in ("group", "all"):
        assert float(outer(q, norms, across)) == pytest.approx(norm, rel=2e-5)


@each
def test_outer_sums_over_groups_or_over_all(q):
    a, b, c = jnp.array([0.4, 1.0]), jnp.array([0.2, 0.9]), jnp.array([2.0])
    apart = sum(outer(q, {"w": units}, "all") for units in (a, b, c))
    np.testing.assert_allclose(outer(q, {"a": a, "b": b, "c": c}), apart, rtol=1e-6)
    # layers stacked for scan are groups of their own, if so said
    np.testing.assert_allclose(
        outer(q, {"layers": jnp.stack([a, b]), "c": c}, batch={"layers": 1}), apart, rtol=1e-6
    )
    one = outer(q, {"w": jnp.concatenate([a, b, c])})
    np.testing.assert_allclose(outer(q, {"a": a, "b": b, "c": c}, "all"), one, rtol=1e-6)


def test_plain_sums_q():
    norms = {"a": jnp.array([[1.0, 4.0]]), "b": jnp.array([9.0])}
    assert plain(power(0.5), norms) == 6
    assert plain(identity, norms) == 14
    assert plain(identity, {}) == 0


def test_names_give_penalties():
    assert named("identity") is identity
    assert named("log1p") is log1p
    assert named("lambert") is lambert
    assert named("power", p=0.5).value(jnp.array(9.0)) == 3


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: named("lambret"), "identity, power, log1p, lambert.*'lambert'"),
        (lambda: named("power"), "'p'"),
        (lambda: named("log1p", p=0.5), "no arguments"),
        (lambda: power(1.0), "0 < p < 1"),
        (lambda: power(0), "0 < p < 1"),
        (lambda: named("power", p="0.5"), "0 < p < 1"),
        (lambda: outer(identity, {}, across="net"), "'group' or 'all'"),
        (lambda: shrinkage(lambert, {}, 0.1), "closed form.*identity, log1p, power"),
        (lambda: shrinkage(power(0.4), {}, 0.1), "closed form.*p = 2/3"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(call, said):
    with pytest.raises(ValueError, match=said):
        call()
