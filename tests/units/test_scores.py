"""Each score is what a loop over the entries of a unit gives, and larger is better."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity.units.masks import per_group
from sparsity.units.partition import Group, View, pool, tiles
from sparsity.units.scores import SCORES, norms, squares

CONV = View("conv/kernel", (3, 3, 5, 7), ((0, 1, 2), (3,)), (16, 4))
STACK = View("stack/kernel", (3, 10, 6), ((0,), (1,), (2,)), (1, 4, 4))
SCALE = View("norm/scale", (7,), ((0,),), (1,))
CHANNEL = View("read/kernel", (7, 9), ((0,),), (1,))
PARTITION = {
    "conv": Group(tiles(CONV), (CONV,)),
    "stack": Group(tiles(STACK), (STACK,), batch=1),
    "channel": Group((7,), (SCALE, CHANNEL)),  # a unit that lies in two leaves
}
SHAPES = {view.path: view.shape for view in (CONV, STACK, SCALE, CHANNEL)}


def tree(seed, spread=5):
    """Small integers, and a leaf that no group gates."""
    draw = np.random.default_rng(seed)
    leaf = lambda shape: jnp.asarray(draw.integers(-spread, spread + 1, shape), jnp.float32)
    nested = {}
    for path, shape in SHAPES.items():
        outer, inner = path.split("/")
        nested[outer] = {inner: leaf(shape)}
    return nested | {"free": jnp.full(3, jnp.nan)}


def entries(view, array):
    """Index of a unit -> its entries, by loops."""
    a = np.asarray(array, np.float64)
    if view is CONV:
        m = a.reshape(45, 7)
        return {(r, c): m[16 * r : 16 * r + 16, 4 * c : 4 * c + 4] for r, c in np.ndindex(3, 2)}
    if view is STACK:
        block = lambda i, r, c: a[i, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
        return {index: block(*index) for index in np.ndindex(3, 3, 2)}
    return {(i,): a[i] for i in range(7)}


def by_hand(value, *trees):
    """value(the unit's entries in each tree, flat) per unit."""
    result = {}
    for name, group in PARTITION.items():
        result[name] = np.zeros(group.grid)
        found = []
        for t in trees:
            per_view = [
                entries(view, t[view.path.split("/")[0]][view.path.split("/")[1]])
                for view in group.gated
            ]
            found.append(per_view)
        for index in np.ndindex(group.grid):
            flat = [np.concatenate([np.ravel(v[index]) for v in views]) for views in found]
            result[name][index] = value(*flat)
    return result


BY_HAND = {
    "l2": lambda w, g, s: np.sqrt(np.sum(w**2)),
    "l1": lambda w, g, s: np.sum(np.abs(w)),
    "max": lambda w, g, s: np.max(np.abs(w)),
    "saliency": lambda w, g, s: np.abs(np.sum(w * g)),
    "fisher": lambda w, g, s: np.sum(w**2 * s),
}


@functools.cache
def compiled(name):
    return jax.jit(lambda *args: SCORES[name].value(PARTITION, *args))


@pytest.mark.parametrize("name", BY_HAND)
@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_a_score_is_what_a_loop_over_its_units_gives(name, seed):
    w, g = tree(seed), tree(seed + 1, spread=3)
    squared = jax.tree.map(jnp.square, tree(seed + 2, spread=2))
    found = compiled(name)(w, g, squared, jax.random.key(0))
    expected = by_hand(BY_HAND[name], w, g, squared)
    for group, value in expected.items():
        assert found[group].shape == value.shape and found[group].dtype == jnp.float32
        np.testing.assert_allclose(found[group], value, rtol=1e-6, atol=0)


def test_a_score_says_what_it_reads():
    assert {name for name, score in SCORES.items() if score.grads} == {"saliency"}
    assert {name for name, score in SCORES.items() if score.grads_squared} == {"fisher"}
    assert set(SCORES) == {*BY_HAND, "random"}
    for name, score in SCORES.items():
        g = tree(1) if score.grads else None
        s = tree(2) if score.grads_squared else None
        assert set(score.value(PARTITION, tree(0), g, s, jax.random.key(0))) == set(PARTITION), name


@pytest.mark.parametrize("name", [*BY_HAND, "random"])
def test_no_group_has_no_score(name):
    assert SCORES[name].value({}, tree(0), tree(1), tree(2), jax.random.key(0)) == {}


def test_the_square_of_a_norm_is_the_sum_of_squares():
    w = tree(3)
    found = squares(PARTITION, w)
    for name, expected in by_hand(lambda w: np.sum(w**2), w).items():
        np.testing.assert_array_equal(found[name], expected)
        np.testing.assert_allclose(norms(PARTITION, w)[name] ** 2, expected, rtol=1e-6)


def test_scores_of_bfloat16_weights_are_summed_in_float32():
    w = {"w": jnp.ones((64, 64), jnp.bfloat16).at[0, 0].set(2)}
    view = View("w", (64, 64), ((0,), (1,)), (64, 64))
    partition = {"w": Group((1, 1), (view,))}
    squared = {"w": jnp.ones((64, 64), jnp.bfloat16)}
    for name, value in (("l1", 4097), ("saliency", 4097), ("fisher", 4099), ("max", 2)):
        found = SCORES[name].value(partition, w, squared, squared, jax.random.key(0))["w"]
        assert found.dtype == jnp.float32 and float(found[0, 0]) == value, name
    assert float(squares(partition, w)["w"][0, 0]) == 4099


def test_the_gradient_of_a_norm_is_its_direction_and_zero_at_zero():
    w = tree(4)
    w["stack"]["kernel"] = w["stack"]["kernel"].at[1, :4, :4].set(0.0).at[2].set(0.0)
    gradient = jax.grad(
        lambda w: sum(jnp.sum(n) for n in norms(PARTITION, {**w, "free": None}).values())
    )(w)
    found = np.asarray(gradient["stack"]["kernel"])
    for index, block in entries(STACK, w["stack"]["kernel"]).items():
        size = np.linalg.norm(block)
        expected = block / size if size else np.zeros_like(block)
        i, r, c = index
        where = found[i, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
        np.testing.assert_allclose(where, expected, rtol=1e-5, atol=1e-7)
    assert np.isfinite(np.asarray(gradient["read"]["kernel"])).all()


@pytest.mark.parametrize("name", BY_HAND)
def test_a_nan_stays_in_its_unit_and_is_seen(name):
    w, g = tree(5), jax.tree.map(jnp.ones_like, tree(5))
    w["conv"]["kernel"] = w["conv"]["kernel"].at[2, 2, 4, 6].set(jnp.nan)
    found = compiled(name)(w, g, g, jax.random.key(0))
    bad = np.isnan(np.asarray(found["conv"]))
    assert bad[2, 1] and bad.sum() == 1
    assert np.isfinite(np.asarray(found["stack"])).all()
    assert np.isfinite(np.asarray(found["channel"])).all()


def test_an_infinite_weight_stays_in_its_unit():
    w = tree(6)
    w["conv"]["kernel"] = w["conv"]["kernel"].at[0, 0, 0, 0].set(jnp.inf)
    found = np.asarray(norms(PARTITION, w)["conv"])
    assert np.isinf(found[0, 0]) and np.isfinite(found.reshape(-1)[1:]).all()


def draw(key):
    return SCORES["random"].value(PARTITION, None, None, None, key)


def test_random_scores_are_one_draw_per_key():
    once, again, other = draw(jax.random.key(0)), draw(jax.random.key(0)), draw(jax.random.key(1))
    for name, group in PARTITION.items():
        assert once[name].shape == group.grid
        np.testing.assert_array_equal(once[name], again[name])
        assert (np.asarray(once[name]) != np.asarray(other[name])).any()
    flat = np.concatenate([np.ravel(scores) for scores in once.values()])
    assert len(np.unique(flat)) == len(flat)  # groups don't repeat each other


def test_masks_of_random_scores_are_nested():
    select = jax.jit(lambda scores, keep: per_group(PARTITION, scores, keep))
    scores = draw(jax.random.key(2))
    before = {name: np.ones(group.grid, bool) for name, group in PARTITION.items()}
    for keep in (6, 5, 3, 2, 1):
        now = select(scores, dict.fromkeys(PARTITION, keep))
        for name in PARTITION:
            assert not (np.asarray(now[name]) & ~before[name]).any()
        before = {name: np.asarray(mask) for name, mask in now.items()}


def test_l1_l2_and_max_lie_in_order():
    w = tree(7)
    l1, l2, largest = (compiled(name)(w, w, w, jax.random.key(0)) for name in ("l1", "l2", "max"))
    size = pool(PARTITION, jax.tree.map(jnp.ones_like, w))
    for name in PARTITION:
        mean, root = l1[name] / size[name], l2[name] / jnp.sqrt(size[name])
        assert (mean <= root * (1 + 1e-6)).all() and (root <= largest[name] * (1 + 1e-6)).all()
