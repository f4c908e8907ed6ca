"""PowerPropagation against its formulas (arXiv 2110.00296; block form of arXiv 2402.17902)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.contract import Context, Signals
from sparsity.families import decayed
from sparsity.methods.powerprop import powerprop, reparametrisation
from sparsity.plan.phases import Kind
from sparsity.units.partition import Group, View, pool, scale
from sparsity.units.scores import norms

KEY = jax.random.key(0)
# 3 x 3 blocks of a 6 x 8 weight; the last column of blocks is ragged.
W = {"w": Group((3, 3), (View("w", (6, 8), ((0,), (1,)), (2, 3)),))}
# A convolution HWIO read as (H*W*I, O), ragged both ways.
CONV = {"w": Group((5, 3), (View("w", (3, 3, 2, 7), ((0, 1, 2), (3,)), (4, 3)),))}
SHAPES = {"dense": (W, (6, 8)), "conv": (CONV, (3, 3, 2, 7))}

alphas = pytest.mark.parametrize("alpha", (1.0, 1.5, 2.0, 3.0))
forms = pytest.mark.parametrize("form", ("block", "weight"))
shapes = pytest.mark.parametrize("shape", SHAPES)


def weights(shape="dense", seed=0):
    numbers = np.random.default_rng(seed)
    drawn = numbers.normal(size=SHAPES[shape][1]) * 0.1
    return {"w": jnp.asarray(drawn, jnp.float32), "bias": jnp.ones(3)}


def at(kind="dense", keep=4):
    return Context(Kind(kind), keep={"w": jnp.int32(keep)}, target={"w": jnp.int32(keep)})


def wide(partition, units, like):
    """Units at the size of the weight."""
    return scale(partition, units, {"w": jnp.ones_like(like["w"])})["w"]


@shapes
@forms
@alphas
def test_the_start_is_the_inverse(alpha, form, shape):
    partition, params = SHAPES[shape][0], weights(shape)
    method = powerprop(partition, alpha=alpha, form=form)
    state = method.init(KEY, params)
    w, phi = params["w"], state.params["w"]
    size = jnp.abs(w) if form == "weight" else wide(partition, norms(partition, params), params)
    np.testing.assert_allclose(phi, w / size * size ** (1 / alpha), rtol=2e-6)
    applied = method.apply(state, at()).params
    np.testing.assert_allclose(applied["w"], w, rtol=2e-6)
    assert applied["bias"] is params["bias"]
    assert alpha != 1 or applied["w"] is w


@shapes
@alphas
def test_the_gradient_of_the_weight_form_is_alpha_times_the_power(alpha, shape):
    partition, params = SHAPES[shape][0], weights(shape)
    method = reparametrisation(partition, alpha, "weight")
    phi, g = method.init(KEY, params).params, weights(shape, 1)["w"]
    of_phi = pulled(method, params, g)
    expected = alpha * jnp.abs(phi["w"]) ** (alpha - 1) * g
    np.testing.assert_allclose(of_phi, expected, rtol=1e-5)


@shapes
@alphas
def test_the_gradient_of_the_block_form_is_the_derived_one(alpha, shape):
    """||V||^(alpha-1) G + (alpha-1) ||V||^(alpha-3) <G, V> V, at alpha 2 block.md section 3's."""
    partition, params = SHAPES[shape][0], weights(shape)
    method = reparametrisation(partition, alpha, "block")
    v, g = method.init(KEY, params).params["w"], weights(shape, 1)["w"]
    size = norms(partition, {"w": v})
    inner = pool(partition, {"w": g * v})
    along = {"w": (alpha - 1) * size["w"] ** (alpha - 3) * inner["w"]}
    straight = {"w": size["w"] ** (alpha - 1)}
    expected = wide(partition, straight, params) * g + wide(partition, along, params) * v
    np.testing.assert_allclose(pulled(method, params, g), expected, rtol=2e-5, atol=1e-7)


def pulled(method, params, g):
    """dLoss/dphi where dLoss/dw is g."""
    state = method.init(KEY, params)

    def applied(phi):
        return method.apply(state._replace(params={**state.params, "w": phi}), at()).params["w"]

    return jax.vjp(applied, state.params["w"])[1](g)[0]


@forms
@alphas
def test_at_exactly_zero_the_gradient_is_finite(alpha, form):
    params = {"w": weights()["w"].at[:2].set(0).at[3, 3].set(0), "bias": jnp.ones(3)}
    method = powerprop(W, alpha=alpha, form=form)
    state, g = method.init(KEY, params), weights(seed=1)["w"]
    np.testing.assert_allclose(method.apply(state, at()).params["w"], params["w"], rtol=2e-6)
    slope = pulled(method, params, g)
    assert jnp.isfinite(slope).all()
    if alpha > 1:
        # A critical point: what is 0 stays 0. In a live block an entry of 0 still learns.
        assert (slope[:2] == 0).all() and (slope[3, 3] != 0) == (form == "block")
    assert reparametrisation(W, alpha, form).absorbs_zero == (alpha == 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", (1e-12, 1e-3, 1e3, 1e9))
@forms
def test_the_start_is_the_inverse_at_all_sizes(form, size, seed):
    params = {"w": weights(seed=seed)["w"] * size}
    method = reparametrisation(W, 2.0, form)
    applied = method.apply(method.init(KEY, params), at()).params["w"]
    np.testing.assert_allclose(applied, params["w"], rtol=2e-6)


@shapes
@forms
@alphas
def test_plain_decay_of_phi_is_a_penalty_of_the_weights(alpha, form, shape):
    """(lambda/2) ||V||^2 == (lambda/2) sum ||W_b||^(2/alpha); per weight the same of |w|."""
    partition, params = SHAPES[shape][0], weights(shape)
    method = decayed(reparametrisation(partition, alpha, form), partition, 0.35)
    penalty = method.penalty(method.init(KEY, params), at(), Signals())
    sizes = jnp.abs(params["w"]) if form == "weight" else norms(partition, params)["w"]
    np.testing.assert_allclose(penalty, 0.35 * jnp.sum(sizes ** (2 / alpha)), rtol=1e-5)


CUBED = powerprop(W, alpha=3.0, form="weight", score="l1")


@jax.jit
def pruned(params):
    state = CUBED.update(CUBED.init(KEY, params), at("sparse"), Signals())
    alive = CUBED.masks(state, at())["w"]
    return alive, CUBED.apply(state, at("sparse")).params["w"]


@given(st.integers(0, 1000))
def test_masks_rank_the_effective_weights(seed):
    """Per weight at alpha 3 the largest sums of |w|, not of |phi|, and masks multiply w."""
    params = weights(seed=seed)
    alive, applied = pruned(params)
    sums = pool(W, {"w": jnp.abs(params["w"])})["w"]
    assert alive.sum() == 4 and sums[alive].min() > sums[~alive].max()
    expected = scale(W, {"w": alive}, params)["w"]
    np.testing.assert_allclose(applied, expected, rtol=3e-6)


@forms
def test_large_weights_learn_faster(form):
    """dw/dt is -alpha^2 |w|^(2 - 2/alpha) dL/dw under a gradient flow of phi: a step of SGD agrees."""
    params, g, rate = {"w": jnp.linspace(0.1, 3, 48).reshape(6, 8)}, jnp.ones((6, 8)), 1e-4
    method = reparametrisation(W, 2.0, form)
    state = method.init(KEY, params)
    phi = state.params["w"] - rate * pulled(method, params, g)
    moved = method.apply(state._replace(params={"w": phi}), at()).params["w"] - params["w"]
    sizes = params["w"] if form == "weight" else wide(W, norms(W, params), params)
    assert (jnp.diff(jnp.abs(pool(W, {"w": moved})["w"][:, 0])) > 0).all()
    if form == "weight":
        np.testing.assert_allclose(moved, -rate * 4 * sizes, rtol=5e-3)


@pytest.mark.parametrize("settings", ({"alpha": 0.9}, {"alpha": float("nan")}, {"form": "blok"}))
def test_a_wrong_exponent_or_form_is_refused(settings):
    with pytest.raises(ValueError, match="alpha >= 1 and form in"):
        powerprop(W, **settings)
