"""Laws of what a tick reports: set arithmetic on masks, entropy and clip of soft numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity.gates import softmax
from sparsity.units.changes import changes, spread_of
from sparsity.units.partition import Group, View

GRIDS = [(1,), (7,), (3, 5), (2, 4, 3)]


def group(grid: tuple[int, ...], batch: int = 0) -> Group:
    axes = tuple((a,) for a in range(len(grid)))
    return Group(grid, (View("w", grid, axes, (1,) * len(grid)),), batch=batch)


def masks(grid: tuple[int, ...]) -> st.SearchStrategy:
    size = int(np.prod(grid))
    bits = st.lists(st.booleans(), min_size=size, max_size=size)
    return bits.map(lambda drawn: np.array(drawn).reshape(grid))


@functools.partial(jax.jit, static_argnums=0)
def spread_in(made: Group, numbers: jax.Array, target: jax.Array | None = None):
    return spread_of({"w": made}, {"w": numbers}, {} if target is None else {"w": target})["w"]


def number(value: jax.Array) -> float:
    return value.item()


@settings(max_examples=20)
@given(st.sampled_from(GRIDS).flatmap(lambda g: st.tuples(masks(g), masks(g))))
def test_changes_are_the_arithmetic_of_sets(pair):
    old, new = pair
    seen = jax.jit(changes)({"w": jnp.asarray(old)}, {"w": jnp.asarray(new)})["w"]
    before, after = set(np.flatnonzero(old)), set(np.flatnonzero(new))
    assert number(seen["alive"]) == len(after)
    assert number(seen["revived"]) == len(after - before)
    assert number(seen["pruned"]) == len(before - after)
    assert number(seen["swapped"]) == len(before ^ after)
    assert number(seen["overlap"]) == np.float32(len(before & after)) / np.float32(
        max(1, len(after))
    )
    assert len(after) - number(seen["revived"]) + number(seen["pruned"]) == len(before)


def test_numbers_are_scalars_that_metrics_take():
    numbers = jnp.ones((3, 5))
    seen = changes({"w": numbers > 0}, {"w": numbers > 2})["w"]
    soft = spread_of({"w": group((3, 5))}, {"w": numbers}, {"w": jnp.int32(3)})["w"]
    kinds = {name: (x.dtype.name, x.shape) for name, x in {**seen, **soft}.items()}
    counts, shares = ("alive", "swapped", "revived", "pruned"), ("overlap", *soft)
    assert kinds == {
        **dict.fromkeys(counts, ("int32", ())),
        **dict.fromkeys(shares, ("float32", ())),
    }


def test_a_group_without_a_mask_before_was_all_alive():
    new = {"w": jnp.array([True, False, False])}
    assert {k: number(v) for k, v in changes({}, new)["w"].items()} == {
        "alive": 1,
        "swapped": 2,
        "revived": 0,
        "pruned": 2,
        "overlap": 1.0,
    }
    assert changes({}, {}) == {}


@pytest.mark.parametrize("size", [2, 49, 4097])
def test_equal_numbers_have_entropy_1_exactly(size):
    soft = spread_of({"w": group((size,))}, {"w": jnp.ones(size)}, {})["w"]
    assert number(soft["entropy"]) == 1 and number(soft["maximum"]) == 1


@settings(max_examples=20)
@given(
    st.sampled_from([(7, 0), (15, 0), (15, 3)]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1, 1.0, 30.0]),
)
def test_entropy_is_that_of_the_normalised_numbers(case, seed, width):
    size, batch = case
    grid = (batch, size // batch) if batch else (size,)
    logits = np.random.default_rng(seed).normal(scale=width, size=grid)
    numbers = jax.nn.softmax(jnp.asarray(logits, jnp.float32)) * grid[-1]
    soft = spread_in(group(grid, 1 if batch else 0), numbers)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0)
    expected = np.mean(-terms.sum(-1) / np.log(grid[-1]))
    assert abs(number(soft["entropy"]) - expected) < 2e-5
    assert number(soft["maximum"]) == np.asarray(numbers).max()


def test_entropy_is_0_where_one_unit_has_it_all_and_stays_finite():
    numbers = {"one": jnp.array([0.0, 8.0, 0.0]), "none": jnp.zeros(3), "single": jnp.array([0.5])}
    groups = {"one": group((3,)), "none": group((3,)), "single": group((1,))}
    soft = spread_of(groups, numbers, {})
    assert number(soft["one"]["entropy"]) == 0 and number(soft["one"]["maximum"]) == 8
    assert number(soft["none"]["entropy"]) == 0 and number(soft["single"]["entropy"]) == 1
    signed = spread_of({"w": group((4,))}, {"w": jnp.array([1.0, -1.0, 1.0, -1.0])}, {})["w"]
    assert number(signed["entropy"]) == 1 and number(signed["maximum"]) == 1


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5, 10, 20]))
def test_the_share_at_the_clip_is_the_same_before_and_after_the_clip(seed, target):
    logits = jnp.asarray(np.random.default_rng(seed).normal(size=20, scale=3), jnp.float32)
    density = jnp.float32(target) / 20
    free, held = (softmax(clip).multiplier(logits, 0, density) for clip in (False, True))
    expected = np.mean((np.asarray(free) <= density) | (np.asarray(free) >= 1 / density))
    for numbers in (free, held):
        soft = spread_in(group((20,)), numbers, jnp.int32(target))
        assert number(soft["at_clip"]) == np.float32(expected)
