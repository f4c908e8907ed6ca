"""Selections hit their count exactly, ties by position: held to a stable sort and to brute force."""

import math
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.units.masks import (
    affordable,
    best,
    counts,
    globally,
    kept,
    per_group,
    threshold,
    to_budget,
)
from sparsity.units.partition import Group

# Shapes are few, so that compilations are: the content varies.
SHAPES = [((1,), 0), ((7,), 0), ((4, 5), 0), ((3, 4, 5), 1), ((2, 3, 4), 2)]
GRIDS = {"a": ((4, 5), 0), "b": ((3,), 0), "c": ((2, 6), 1), "d": ((1,), 0)}
PARTITION = {name: Group(grid, (), batch=batch) for name, (grid, batch) in GRIDS.items()}
SIZES = [math.prod(grid) for grid, _ in GRIDS.values()]

selected = jax.jit(best, static_argnums=2)
ties = st.integers(-3, 3).map(float)
special = st.sampled_from([0.0, -0.0, np.inf, -np.inf, 1.0, -1.0, 3e38, -3e38, 1e-37, -1e-37])
any_score = ties | special | st.floats(width=32, allow_nan=False, allow_subnormal=False)


def ranked(scores):
    """Positions from best to worst, the earlier first among equals (and -0 equals 0)."""
    return np.argsort(-(scores.reshape(-1) + 0.0), kind="stable")


def prefix(scores, keep):
    mask = np.zeros(scores.size, bool)
    mask[ranked(scores)[:keep]] = True
    return mask.reshape(scores.shape)


def scores_of(data, shape, values=any_score):
    drawn = data.draw(st.lists(values, min_size=math.prod(shape), max_size=math.prod(shape)))
    return np.asarray(drawn, np.float32).reshape(shape)


def per_index(scores, keep, batch):
    index = scores.reshape(-1, *scores.shape[batch:])
    return np.stack([prefix(one, keep) for one in index]).reshape(scores.shape)


@pytest.mark.parametrize(("shape", "batch"), SHAPES)
@given(data=st.data())
def test_the_best_are_those_of_a_stable_sort(shape, batch, data):
    scores = scores_of(data, shape)
    keep = data.draw(st.integers(0, math.prod(shape[batch:])))
    found = selected(scores, keep, batch)
    assert found.dtype == bool and found.shape == shape
    np.testing.assert_array_equal(found, per_index(scores, keep, batch))


@pytest.mark.parametrize("fill", ["all equal", "few values", "distinct", "all -inf"])
@pytest.mark.parametrize(("shape", "batch"), [((7, 11), 0), ((3, 5, 5), 1)])
def test_every_count_is_hit_exactly(shape, batch, fill):
    draw = np.random.default_rng(0)
    scores = {
        "all equal": np.ones(shape),
        "few values": draw.integers(-2, 3, shape),
        "distinct": draw.permutation(math.prod(shape)).reshape(shape) - 20,
        "all -inf": np.full(shape, -np.inf),
    }[fill].astype(np.float32)
    for keep in range(math.prod(shape[batch:]) + 1):
        found = np.asarray(selected(scores, keep, batch))
        assert (found.sum(tuple(range(batch, len(shape)))) == keep).all()
        np.testing.assert_array_equal(found, per_index(scores, keep, batch))


def test_a_count_beyond_the_units_keeps_all():
    assert selected(jnp.arange(5.0), 9, 0).all()


def test_zero_and_minus_zero_tie():
    scores = jnp.array([-0.0, 0.0, -0.0, 0.0])
    assert selected(scores, 2, 0).tolist() == [True, True, False, False]


def test_denormals_count_as_zero_compiled_or_not():
    scores = np.array([0.0, 1e-40, -1e-40, 2e-40, 1.2e-38, -1.2e-38], np.float32)
    for keep, alive in ((1, [4]), (2, [0, 4]), (5, [0, 1, 2, 3, 4])):
        for select in (best, selected):
            assert np.flatnonzero(select(scores, keep, 0)).tolist() == alive


def test_scores_that_differ_in_the_last_bit_are_told_apart():
    for value in (1.0, -1.0, 1e30, -1e-30):
        up = np.nextafter(np.float32(value), np.float32(np.inf))
        assert selected(np.array([value, up], np.float32), 1, 0).tolist() == [False, True]
        assert selected(np.array([up, value], np.float32), 1, 0).tolist() == [True, False]


def test_more_kept_is_a_superset():
    scores = np.random.default_rng(1).integers(0, 4, (6, 6)).astype(np.float32)
    before = np.zeros((6, 6), bool)
    for keep in range(37):
        now = np.asarray(selected(scores, keep, 0))
        assert (now | ~before).all()
        before = now


@pytest.mark.parametrize("nan", [np.nan, -np.nan])
def test_a_nan_does_not_change_the_count(nan):
    scores = np.array([3.0, nan, 1.0, nan, 2.0], np.float32)
    rest = [0, 4, 2]
    for keep in range(6):
        found = np.asarray(selected(scores, keep, 0))
        assert found.sum() == keep
        order = [i for i in rest if found[i]]
        assert order == rest[: len(order)]
    # At an end: both NaN alive before any number is, or neither until all numbers are.
    assert np.asarray(selected(scores, 2, 0)).tolist() in (
        [False, True, False, True, False],
        [True, False, False, False, True],
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int32])
def test_scores_of_other_types_are_ranked_alike(dtype):
    scores = np.random.default_rng(2).integers(-9, 9, (5, 5))
    found = selected(jnp.asarray(scores, dtype), 11, 0)
    np.testing.assert_array_equal(found, prefix(scores.astype(np.float32), 11))


def test_one_compilation_serves_every_count():
    traced = []

    @jax.jit
    def select(scores, keep):
        traced.append(1)
        return best(scores, keep)

    for keep in range(5):
        assert int(select(jnp.arange(9.0), jnp.int32(keep)).sum()) == keep
    assert len(traced) == 1


def test_seeds_may_be_mapped_over():
    scores = np.random.default_rng(3).integers(0, 5, (4, 3, 6)).astype(np.float32)
    keep = jnp.array([1, 5, 9, 18])
    found = jax.jit(jax.vmap(best))(scores, keep)
    for i in range(4):
        np.testing.assert_array_equal(found[i], prefix(scores[i], int(keep[i])))


def drawn_scores(data, values=ties):
    return {name: scores_of(data, grid, values) for name, (grid, _) in GRIDS.items()}


@given(data=st.data())
def test_each_group_keeps_its_own_count_per_index(data):
    scores = drawn_scores(data)
    keep = {name: data.draw(st.integers(0, g.size)) for name, g in PARTITION.items()}
    found = select_per_group(scores, keep)
    assert list(found) == list(PARTITION)
    for name, group in PARTITION.items():
        np.testing.assert_array_equal(found[name], per_index(scores[name], keep[name], group.batch))


select_per_group = jax.jit(partial(per_group, PARTITION))
select_globally = jax.jit(partial(globally, PARTITION), static_argnums=2)
select_to_budget = jax.jit(partial(to_budget, PARTITION))


def split(mask):
    parts = np.split(mask, np.cumsum(SIZES)[:-1])
    return {n: part.reshape(g.grid) for part, (n, g) in zip(parts, PARTITION.items(), strict=True)}


def flat(units):
    return np.concatenate([np.asarray(units[name]).reshape(-1) for name in PARTITION])


def globally_by_hand(scores, total, floor):
    reserved = {n: per_index(scores[n], floor, g.batch) for n, g in PARTITION.items()}
    mask = flat(reserved)
    for i in ranked(flat(scores)):
        if mask.sum() == total:
            break
        mask[i] = True
    return split(mask)


@pytest.mark.parametrize("floor", [0, 1])
@given(data=st.data())
def test_a_global_selection_is_the_best_of_all_after_the_floors(floor, data):
    scores = drawn_scores(data)
    keep = {name: data.draw(st.integers(floor, g.size)) for name, g in PARTITION.items()}
    total = sum(keep[name] * group.indices for name, group in PARTITION.items())
    found = select_globally(scores, keep, floor)
    assert sum(int(mask.sum()) for mask in found.values()) == total
    expected = globally_by_hand(scores, total, floor)
    for name in PARTITION:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("floor", [1, 2])
def test_no_layer_and_no_index_collapses_under_a_global_selection(floor):
    partition = {"huge": Group((40,), ()), "tiny": Group((3, 4), (), batch=1)}
    scores = {"huge": jnp.arange(100.0, 140.0), "tiny": -jnp.ones((3, 4)).at[0, 3].set(jnp.inf)}
    keep = {"huge": 10, "tiny": 2}
    found = globally(partition, scores, keep, floor)
    assert found["tiny"].sum(1).tolist() == [floor] * 3
    assert int(found["huge"].sum()) == 16 - 3 * floor
    free = globally(partition, scores, keep, 0)
    assert free["tiny"].sum(1).tolist() == [0, 0, 0]


def test_nothing_to_select_is_no_error():
    assert globally({}, {}, {}) == {}
    assert to_budget({}, {}, {}, 3.0) == {}
    assert per_group({}, {}, {}) == {}


@given(data=st.data())
def test_a_budget_is_spent_in_the_order_of_the_scores(data):
    scores, cost = drawn_scores(data), drawn_scores(data, st.integers(0, 6).map(float))
    budget = data.draw(st.integers(-1, 70)) + data.draw(st.sampled_from([0.0, 0.5]))
    found = select_to_budget(scores, cost, budget)
    costs, mask, spent = flat(cost), np.zeros(sum(SIZES), bool), 0.0
    for i in ranked(flat(scores)):
        if spent + costs[i] > budget:
            break
        mask[i], spent = True, spent + costs[i]
    expected = split(mask)
    for name in PARTITION:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_threshold_keeps_what_reaches_it():
    partition = {"a": Group((4,), ())}
    found = threshold(
        partition, {"a": jnp.array([0.5, 0.25, 1.0, 0.75]), "other": jnp.ones(2)}, 0.5
    )
    assert {name: mask.tolist() for name, mask in found.items()} == {"a": [True, False, True, True]}


# Counts.


def test_counts_are_those_of_exact_decimals():
    assert math.floor((1 - 0.8) * 1000) == 199  # what floats give
    assert kept("w", Group((1000,), ()), 1 - Fraction("0.8")) == 200
    assert math.floor((1 - 0.9) * 400) == 39
    assert kept("w", Group((20, 20), ()), Fraction("0.1")) == 40


@pytest.mark.parametrize("size", [100, 1000])
def test_every_percentage_of_a_round_number_is_exact(size):
    assert math.floor(0.29 * 100) == 28  # what floats give, though this decimal is read right
    found = [kept("w", Group((size,), ()), Fraction(f"0.{n:02}")) for n in range(1, 100)]
    assert found == [n * size // 100 for n in range(1, 100)]


@given(size=st.integers(1, 10**6), thousandths=st.integers(1, 1000))
def test_the_count_is_the_floor_whatever_the_size(size, thousandths):
    group, density = Group((size,), ()), Fraction(thousandths, 1000)
    if size * thousandths < 1000:
        with pytest.raises(ValueError, match="keeps none"):
            kept("w", group, density)
    else:
        assert kept("w", group, density) == size * thousandths // 1000


@given(
    share=st.fractions(0, 1),
    hundredths=st.integers(20, 100),
)
def test_counts_go_from_all_units_to_the_target(share, hundredths):
    partition = {"a": Group((7, 9), ()), "stacked": Group((5, 3, 4), (), batch=1)}
    goal = Fraction(hundredths, 100)
    density = {"a": goal, "stacked": Fraction(1, 2)}
    found = counts(partition, density, share)
    assert found["a"] == math.floor((1 - share * (1 - goal)) * 63)
    assert found["stacked"] == math.floor((1 - share / 2) * 12)  # per stacked layer
    assert counts(partition, density, Fraction(0)) == {"a": 63, "stacked": 12}
    assert counts(partition, density, Fraction(1))["a"] == math.floor(goal * 63)
    assert all(type(count) is int for count in found.values())


def test_a_target_that_cannot_be_reached_names_its_layer():
    partition = {"fine": Group((100,), ()), "params/small/kernel": Group((3, 3), ())}
    density = {"fine": Fraction("0.1"), "params/small/kernel": Fraction("0.1")}
    with pytest.raises(ValueError, match="params/small/kernel") as caught:
        counts(partition, density, Fraction(1))
    assert "0.1" in str(caught.value) and "9 units" in str(caught.value)
    assert "1/9" in str(caught.value)
    assert counts(partition, density, Fraction(1, 2))["params/small/kernel"] == 4


def test_a_floor_that_cannot_be_afforded_is_refused():
    partition = {"a": Group((8,), ()), "stacked": Group((3, 4), (), batch=1)}
    affordable(partition, {"a": 2, "stacked": 1}, 1)
    affordable(partition, {"a": 1, "stacked": 1}, 1)
    with pytest.raises(ValueError, match="floor of 2 units per layer needs 8 units") as caught:
        affordable(partition, {"a": 2, "stacked": 1}, 2)
    assert "keeps 5" in str(caught.value)
    with pytest.raises(ValueError, match="fewer units than the floor: stacked"):
        affordable(partition, {"a": 8, "stacked": 4}, 5)
