"""Costs as sums of terms: exact on masks, multilinear on gates, per sample where gates are."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity.units.costs import (
    Term,
    count,
    expected,
    per_unit,
)


def bits(*sizes):
    n = math.prod(sizes)
    return st.integers(0, 2**n - 1).map(
        lambda code: np.array([code >> i & 1 for i in range(n)], np.int32).reshape(sizes)
    )


TERMS = (
    Term(9 * 10**10 + 1, ("a", "b")),  # a convolution; more than an int32 holds
    Term(7, ("a", "a", "branch")),  # in and out of one stream, in a branch
    Term(np.arange(24).reshape(2, 3, 4), ("blocks", "b")),  # units that differ in cost
    Term(5, ("stack", "stack"), batch=1),
    Term(11),
)
MASKS = st.fixed_dictionaries(
    {"a": bits(5), "b": bits(4), "branch": bits(1), "blocks": bits(2, 3), "stack": bits(3, 2)}
)


def by_hand(masks):
    sums = {group: int(mask.sum()) for group, mask in masks.items()}
    kept = np.argwhere(masks["blocks"])
    columns = np.flatnonzero(masks["b"])
    return (
        (9 * 10**10 + 1) * sums["a"] * sums["b"]
        + 7 * sums["a"] ** 2 * sums["branch"]
        + sum(int(12 * i + 4 * j + k) for i, j in kept for k in columns)
        + 5 * sum(int(row.sum()) ** 2 for row in masks["stack"])
        + 11
    )


@settings(max_examples=20, deadline=None)
@given(MASKS)
def test_masks_count_exactly_and_gates_agree(masks):
    exact = count(TERMS, masks)
    assert type(exact) is int
    assert exact == by_hand(masks)
    gates = {group: jnp.asarray(mask, jnp.float32) for group, mask in masks.items()}
    assert float(expected(TERMS, gates)) == pytest.approx(exact, rel=1e-6)


def test_cost_is_multilinear_in_the_gates_of_a_group():
    terms = (Term(3, ("a", "b")), *per_unit({"b": np.arange(4)}))
    a, b, c = (jax.random.uniform(jax.random.key(n), (4,)) for n in range(3))
    mixed = expected(terms, {"a": a, "b": 0.25 * b + 0.75 * c})
    apart = 0.25 * expected(terms, {"a": a, "b": b}) + 0.75 * expected(terms, {"a": a, "b": c})
    assert float(mixed) == pytest.approx(float(apart), rel=1e-6)
    slope = jax.grad(lambda b: expected(terms, {"a": a, "b": b}))(b)
    np.testing.assert_allclose(slope, 3 * a.sum() + np.arange(4), rtol=1e-6)


def test_gates_per_sample_give_a_cost_per_sample():
    terms = (Term(3, ("a", "b")), *per_unit({"a": np.arange(5)}))
    a, b = jax.random.uniform(jax.random.key(0), (6, 5)), jnp.ones(4)
    together = expected(terms, {"a": a, "b": b}, sampled={"a"})
    np.testing.assert_allclose(
        together, [expected(terms, {"a": row, "b": b}) for row in a], rtol=1e-6
    )


def test_costs_of_terms_that_do_not_fit_are_errors():
    mask = {"conv1": np.ones(4, int)}
    with pytest.raises(ValueError, match="did you mean 'conv1'"):
        count([Term(1, ("conv",))], mask)
    with pytest.raises(ValueError, match="0 and 1"):
        count([Term(1, ("conv1",))], {"conv1": np.array([0.5, 1])})
    with pytest.raises(ValueError, match="integer"):
        count([Term(1.5, ("conv1",))], mask)
    with pytest.raises(ValueError, match="shape"):
        count([Term(np.ones(3, int), ("conv1",))], mask)
