"""Laws of the families: what is hard keeps the best, what is learned multiplies, what is penalised arrives."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.contract import Context, Needs, Signals
from sparsity.families import (
    decayed,
    gated,
    hard,
    penalised,
    reparametrised,
    selection,
)
from sparsity.gates import exponential, hoff, sigmoid, softmax
from sparsity.penalties import identity, log1p, power
from sparsity.plan.phases import Kind
from sparsity.units.partition import Group, View, scale
from sparsity.units.scores import SCORES, Score

KEY = jax.random.key(0)
VIEW = View("w", (6, 8), ((0,), (1,)), (2, 3))
W = {"w": Group((3, 3), (VIEW,))}


def weights(seed=0, change=lambda x: x):
    numbers = np.random.default_rng(seed)
    return {"w": jnp.asarray(change(numbers.normal(size=(6, 8))), jnp.float32)}


def at(kind="sparse", keep=4, **settings):
    count = {"w": jnp.int32(keep)}
    return Context(Kind(kind), keep=count, target=count, **settings)


# hard


@pytest.mark.parametrize("score", SCORES)
def test_hard_keeps_the_units_with_the_best_scores(score):
    method, signals = hard(W, SCORES[score]), Signals(weights(1), weights(2, np.square))
    state = method.init(KEY, weights())
    key = jax.random.wrap_key_data(state.memory.key)
    values = SCORES[score].value(W, weights(), signals.grads, signals.grads_squared, key)["w"]
    alive = method.update(state, at(), signals).memory.masks["w"]
    assert alive.sum() == 4 and values[alive].min() > values[~alive].max()


def test_where_dead_weights_are_zero_a_mask_need_not_touch_the_forward_pass():
    method = hard(W, SCORES["l2"])
    state = method.update(method.init(KEY, weights()), at(), Signals())
    buried = scale(W, state.memory.masks, state.params)

    def loss(params, context):
        applied = method.apply(state._replace(params=params), context).params
        return jnp.sum(jnp.sin(applied["w"] + 1) * weights(1)["w"]), applied

    value = jax.jit(jax.value_and_grad(loss, has_aux=True))
    ends = [value(buried, at(zeroed=zeroed)) for zeroed in (False, True)]
    one, other = ([np.asarray(x).tobytes() for x in jax.tree.leaves(end)] for end in ends)
    assert one == other
    untouched = method.apply(state._replace(params=weights()), at(zeroed=True)).params["w"]
    np.testing.assert_array_equal(untouched, weights()["w"])


@pytest.mark.parametrize("score", SCORES)
def test_hard_needs_what_its_score_reads(score):
    needs = hard(W, SCORES[score], batches=7).needs
    reads = SCORES[score].grads, SCORES[score].grads_squared
    assert needs == Needs(7 if any(reads) else 0, *reads)


def test_a_draw_is_the_same_at_every_tick_so_that_ramps_are_nested():
    method = hard(W, SCORES["random"])
    state, alive = method.init(KEY, weights()), jnp.ones((3, 3), bool)
    for seed, keep in enumerate((8, 6, 5, 5, 1)):
        state = state._replace(params=weights(seed))
        state = method.update(state, at(keep=keep), Signals())
        new = state.memory.masks["w"]
        assert new.sum() == keep and (new <= alive).all()
        alive = new


def test_draws_differ_between_keys_and_between_groups():
    two = {"w": W["w"], "v": Group((3, 3), (View("v", (6, 8), ((0,), (1,)), (2, 3)),))}
    method = hard(two, SCORES["random"])
    keep = Context(Kind.SPARSE, keep={"w": jnp.int32(4), "v": jnp.int32(4)})
    drawn = []
    for seed in range(3):
        params = {"w": weights()["w"], "v": weights()["w"]}
        state = method.update(method.init(jax.random.key(seed), params), keep, Signals())
        drawn += state.memory.masks.values()
    different = itertools.combinations(drawn, 2)
    assert sum(bool((a != b).any()) for a, b in different) >= 14


def test_the_dead_rank_below_the_living_where_nothing_may_regrow():
    method = hard(W, Score(lambda p, params, *_: params))
    state = method.init(KEY, {"w": jnp.arange(9.0).reshape(3, 3)})
    state = method.update(state, at(keep=5), Signals())
    # The dead now score best by far, and the living less than nothing.
    state = state._replace(params={"w": 100 - 200.0 * state.memory.masks["w"]})
    for regrow, revived in ((False, 0), (True, 4)):
        new = method.update(state, at(keep=4, regrow=regrow), Signals()).memory.masks["w"]
        assert new.sum() == 4 and (new & ~state.memory.masks["w"]).sum() == revived


def test_dead_weights_keep_their_value_and_get_no_gradient():
    method = hard(W, SCORES["l2"])
    state = method.update(method.init(KEY, weights()), at(), Signals())
    loss = lambda params: jnp.sum(
        method.apply(state._replace(params=params), at()).params["w"] ** 2
    )
    slopes = jax.grad(loss)(state.params)["w"]
    masked = scale(W, state.memory.masks, weights())["w"]
    np.testing.assert_array_equal(slopes, 2 * masked)
    np.testing.assert_array_equal(state.params["w"], weights()["w"])
    np.testing.assert_array_equal(method.apply(state, at("dense")).params["w"], weights()["w"])


def test_dead_weights_are_zero_even_where_they_were_not_finite():
    method = hard(W, Score(lambda p, params, *_: {"w": jnp.arange(9.0).reshape(3, 3)}))
    sick = {"w": weights()["w"].at[0, 0].set(jnp.nan).at[1, 1].set(jnp.inf)}
    state = method.update(method.init(KEY, sick), at(), Signals())
    assert jnp.isfinite(method.apply(state, at()).params["w"]).all()


def test_an_unknown_selection_says_what_there_is():
    with pytest.raises(ValueError, match="did you mean 'globally'.*per_group, globally"):
        selection("global")


# gated


def test_a_gate_multiplies_its_unit_and_no_other_entry():
    method = gated(W, exponential())
    params = {**weights(), "b": jnp.ones(8)}
    state = method.init(KEY, params)
    state = state._replace(gates={"w": state.gates["w"].at[1, 2].set(jnp.log(3.0))})
    applied = method.apply(state, at("dense")).params
    expected = params["w"].at[2:4, 6:].multiply(3)
    np.testing.assert_allclose(applied["w"], expected, rtol=1e-6)
    assert applied["b"] is params["b"]


@pytest.mark.parametrize("make", (softmax, exponential, sigmoid, hoff))
def test_gated_keeps_the_units_with_the_best_numbers_whatever_their_weights(make):
    method = gated(W, make())
    state = method.init(KEY, weights())
    state = state._replace(gates={"w": jnp.asarray(np.random.default_rng(3).normal(size=(3, 3)))})
    alive = method.update(state, at(), Signals()).memory.masks["w"]
    rank = make().rank(state.gates["w"])
    assert alive.sum() == 4 and rank[alive].min() > rank[~alive].max()
    heavy = state._replace(params=jax.tree.map(lambda w: w * 100, state.params))
    np.testing.assert_array_equal(method.update(heavy, at(), Signals()).memory.masks["w"], alive)


def test_without_a_selection_a_gate_prunes_nothing():
    method = gated(W, softmax(), select=None)
    state = method.init(KEY, weights())
    assert method.update(state, at(), Signals()) is state and method.masks(state, at()) == {}
    for kind in Kind:
        np.testing.assert_array_equal(method.apply(state, at(kind)).params["w"], weights()["w"])


def test_gates_start_where_the_network_is_unchanged_or_spread_around_it():
    exact = gated(W, hoff()).init(KEY, weights()).gates["w"]
    assert (exact == 1).all() and exact.dtype == jnp.float32
    wide = {"w": Group((40, 50), (View("w", (40, 50), ((0,), (1,)), (1, 1)),))}
    spread = gated(wide, hoff(), start_spread=0.1).init(KEY, {"w": jnp.ones((40, 50))}).gates["w"]
    np.testing.assert_allclose((spread.mean(), spread.std()), (1, 0.1), atol=0.01)


# reparametrised


def test_a_reparametrisation_trains_what_it_was_turned_into():
    method = reparametrised(
        lambda w: jax.tree.map(jnp.arcsinh, w), lambda v: jax.tree.map(jnp.sinh, v), False
    )
    state = method.init(KEY, weights())
    np.testing.assert_allclose(jnp.sinh(state.params["w"]), weights()["w"], rtol=1e-6)
    np.testing.assert_allclose(method.apply(state, at()).params["w"], weights()["w"], rtol=2e-6)
    assert not method.absorbs_zero and reparametrised(id, id).absorbs_zero


# penalised and decayed


@given(st.integers(0, 1000), st.sampled_from((identity, log1p, power(0.5))))
def test_a_penalty_is_the_sum_of_q_of_the_norms(seed, q):
    params = weights(seed)
    sizes = [
        float(jnp.linalg.norm(params["w"][2 * i : 2 * i + 2, 3 * j : 3 * j + 3]))
        for i in range(3)
        for j in range(3)
    ]
    total = sum(float(q.value(jnp.float32(a))) for a in sizes)
    for form, expected in (("plain", total), ("outer", float(q.inverse(jnp.float32(total))))):
        method = penalised(W, q, 0.3, form)
        penalty = method.penalty(method.init(KEY, params), at(), Signals())
        np.testing.assert_allclose(penalty, 0.3 * expected, rtol=2e-5)


def test_an_outer_penalty_of_stacked_layers_is_the_sum_of_theirs():
    stacked = {"w": Group((2, 3, 3), (View("w", (2, 6, 8), ((0,), (1,), (2,)), (1, 2, 3)),), (), 1)}
    both = {"w": jnp.stack([weights(0)["w"], weights(1)["w"]])}
    value = lambda p, params: penalised(p, log1p, 0.3, "outer").penalty(
        penalised(p, log1p, 0.3).init(KEY, params), at(), Signals()
    )
    alone = value(W, weights(0)) + value(W, weights(1))
    np.testing.assert_allclose(value(stacked, both), alone, rtol=1e-6)


def test_an_unknown_form_of_penalty_says_what_there_is():
    with pytest.raises(ValueError, match="'outter'; did you mean 'outer'"):
        penalised(W, identity, 1.0, "outter")


@pytest.mark.parametrize("form", ("plain", "outer"))
def test_a_penalty_has_finite_gradients_at_dead_units(form):
    method = penalised(W, power(0.5), 0.3, form)
    dead = {"w": weights()["w"].at[:2].set(0)}
    loss = lambda p: method.penalty(method.init(KEY, p), at(), Signals())
    slopes = jax.grad(loss)(dead)["w"]
    assert jnp.isfinite(slopes).all() and (slopes[:2] == 0).all() and (slopes[2:] != 0).all()


@pytest.mark.parametrize(("order", "size"), ((2, np.square), (1, np.abs)))
def test_a_decay_is_of_gates_and_of_gated_weights_only(order, size):
    method = decayed(gated(W, exponential()), W, 0.2, order)
    state = method.init(KEY, {**weights(), "b": jnp.full(8, 100.0)})
    state = state._replace(gates={"w": jnp.linspace(-1, 1, 9).reshape(3, 3)})
    expected = 0.2 * (size(state.gates["w"]).sum() + np.square(weights()["w"]).sum())
    np.testing.assert_allclose(method.penalty(state, at(), Signals()), expected, rtol=1e-6)
