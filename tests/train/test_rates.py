"""Laws of the learning rate."""

import re

import numpy as np
import pytest

from sparsity.train.rates import schedule


def _over(steps=40, **settings):
    rate = schedule(learning_rate=0.5, steps=steps, **settings)
    return np.array([float(rate(step)) for step in range(steps + 1)])


@pytest.mark.parametrize("shape", ["cosine", "linear", "exponential"])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_it_peaks_after_the_warmup_and_ends_at_the_final_rate(shape, warmup):
    rates = _over(schedule=shape, warmup=warmup, final=0.01)
    rise = 0.5 * np.arange(1, warmup + 1) / (warmup + 1)
    np.testing.assert_allclose(rates[: warmup + 1], [*rise, 0.5], rtol=1e-6)
    assert (np.diff(rates[warmup:]) < 0).all()
    assert rates[-1] == pytest.approx(0.01, rel=1e-5)
    rate = schedule(learning_rate=0.5, steps=40, schedule=shape, warmup=warmup, final=0.01)
    assert float(rate(1000)) == pytest.approx(0.01, rel=1e-5)


def test_the_middle_of_a_cosine_a_line_and_an_exponential():
    half = [_over(schedule=shape, final=0.005)[20] for shape in ("cosine", "linear", "exponential")]
    np.testing.assert_allclose(half, [0.2525, 0.2525, 0.05], rtol=1e-5)


def test_a_constant_rate_stays():
    np.testing.assert_allclose(_over(schedule="constant", warmup=3)[3:], 0.5)


@pytest.mark.parametrize("warmup", [0, 4])
def test_pairs_drop_the_rate_at_their_progress(warmup):
    rates = _over(schedule=((0.3, 0.1), (0.75, 0.5)), warmup=warmup)
    expected = [0.5] * 12 + [0.05] * 18 + [0.025] * 11
    np.testing.assert_allclose(rates[warmup:], expected[warmup:], rtol=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"schedule": "cosin"}, "did you mean 'cosine'.*constant.*linear.*exponential"),
        ({"schedule": "exponential"}, "final=0.0: an exponential schedule never reaches 0"),
        ({"schedule": ((1.5, 0.1),)}, "expected pairs"),
        ({"schedule": ((0.5, 0.1), (0.501, 0.1))}, "each at a step of its own"),
        ({"schedule": ((0.1, 0.1),), "warmup": 10}, "drops at step 4, in the warm-up"),
        ({"warmup": 40}, "warmup=40 of steps=40"),
        ({"warmup": -1}, "warmup=-1"),
        ({"final": -0.1}, "final=-0.1"),
    ],
)
def test_what_makes_no_schedule_is_an_error(settings, message):
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        _over(**settings)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_learning_rate_is_positive(rate):
    with pytest.raises(ValueError, match="expected a positive number"):
        schedule(learning_rate=rate, steps=4)


def test_a_warmup_is_a_number_of_steps_not_a_share():
    with pytest.raises(TypeError):
        schedule(learning_rate=0.1, steps=4, warmup=0.5)
