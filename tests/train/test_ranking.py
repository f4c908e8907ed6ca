"""The area under the ROC curve is exact, ties and all."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from sparsity.train.ranking import auc

PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), min_size=1, max_size=30)


@given(PAIRS)
def test_it_is_the_share_of_pairs_in_order(pairs):
    scores, labels = np.array(pairs).T
    ups, downs = scores[labels == 1], scores[labels == 0]
    won = sum(2 * int(u > d) + int(u == d) for u in ups for d in downs)
    if not len(ups) * len(downs):
        assert math.isnan(auc(scores, labels))
    else:
        assert auc(scores, labels) == float(Fraction(won, 2 * len(ups) * len(downs)))


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_it_agrees_with_scikit_learn(decimals):
    rng = np.random.default_rng(decimals)
    labels = rng.random(20_000) < 0.256
    scores = np.round(rng.normal(size=20_000) + labels, decimals).astype(np.float32)
    assert abs(auc(scores, labels) - roc_auc_score(labels, scores)) < 1e-12


def test_order_and_monotone_maps_change_nothing():
    rng = np.random.default_rng(0)
    scores, labels = np.round(rng.normal(size=999), 1), rng.integers(0, 2, 999)
    order = rng.permutation(999)
    assert auc(scores, labels) == auc(np.exp(scores[order]), labels[order])
    assert auc(scores, labels) + auc(-scores, labels) == pytest.approx(1, abs=1e-15)
