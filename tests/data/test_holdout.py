"""A part is held out of each class, by seed."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.data.holdout import hold_out

labels = st.lists(st.integers(0, 3), min_size=40, max_size=90).map(np.array)


@given(labels, st.sampled_from([0.2, 0.5, 0.7]), st.integers(0, 1000))
def test_the_parts_are_disjoint_and_hold_a_share_of_each_class(labels, fraction, seed):
    kept, held = hold_out(labels, fraction, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(labels)))
    assert (np.diff(kept) > 0).all() and (np.diff(held) > 0).all()
    for label in range(4):
        n = int((labels == label).sum())
        assert (labels[held] == label).sum() == math.floor(Fraction(str(fraction)) * n)
    again = hold_out(labels, fraction, seed)
    np.testing.assert_array_equal(again[1], held)


def test_counts_are_those_of_the_decimal():
    # in floating point, 0.29 * 100 is 28.999999999999996
    assert len(hold_out(np.zeros(100, int), 0.29, 0)[1]) == 29


def test_seeds_hold_out_different_images():
    held = {tuple(hold_out(np.zeros(50, int), 0.2, seed)[1]) for seed in range(10)}
    assert len(held) == 10


@pytest.mark.parametrize(
    ("fraction", "words"), [(0.0, "not at 0.0"), (1, "not at 1"), (-0.1, "-0.1"), (0.01, "has 20")]
)
def test_fractions_that_leave_a_side_empty_are_refused(fraction, words):
    with pytest.raises(ValueError, match=words):
        hold_out(np.zeros(20, int), fraction, 0)
