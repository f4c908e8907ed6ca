"""Losses are the textbook's, whatever the form of the outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss as reference

from sparsity.train.objectives import cross_entropy, log_loss

LOGITS = jnp.array([-80.0, -1.5, 0.0, 0.3, 7.0, 120.0])
LABELS = jnp.array([0, 1, 1, 0, 1, 1])


def test_log_loss_is_scikit_learns():
    chance = np.asarray(jax.nn.sigmoid(LOGITS[1:5]), np.float64)
    found = log_loss().loss(LOGITS[1:5], LABELS[1:5]).mean()
    assert float(found) == pytest.approx(reference(LABELS[1:5], chance), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_log_loss_is_cross_entropy_of_two_classes(smoothing):
    pair = jnp.stack([jnp.zeros_like(LOGITS), LOGITS], 1)
    one, two = log_loss(smoothing), cross_entropy(smoothing)
    np.testing.assert_allclose(one.fit(LOGITS, LABELS), two.fit(pair, LABELS), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        one.loss(LOGITS, LABELS), two.loss(pair, LABELS), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(one.right(LOGITS, LABELS), two.right(pair, LABELS))


def test_sure_and_wrong_costs_what_it_should_and_is_finite():
    gradient = jax.grad(lambda x: log_loss().fit(x, 1 - LABELS).sum())(LOGITS)
    assert jnp.isfinite(gradient).all()
    assert float(log_loss().loss(LOGITS, 1 - LABELS)[-1]) == 120.0


def test_evaluation_is_not_smoothed():
    one = log_loss(0.2)
    np.testing.assert_array_equal(one.loss(LOGITS, LABELS), log_loss().loss(LOGITS, LABELS))
    assert not np.array_equal(one.fit(LOGITS, LABELS), one.loss(LOGITS, LABELS))
