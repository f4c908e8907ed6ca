"""Ramps go from 0 to exactly 1, through the values that their papers give."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.plan.schedules import (
    RAMPS,
    constant,
    cosine,
    cubic,
    exponential,
    linear,
    piecewise,
    ramp,
)

progress = st.fractions(0, 1)
steps = [Fraction(i, 24) for i in range(25)]


@pytest.mark.parametrize("name", RAMPS)
def test_a_ramp_is_exact_at_its_ends(name):
    curve = ramp(name)
    assert curve(Fraction(1)) == 1
    assert curve(Fraction(0)) == (1 if name == "constant" else 0)
    assert all(isinstance(curve(t), Fraction) for t in steps)


@pytest.mark.parametrize("name", RAMPS)
def test_a_ramp_never_falls_and_never_leaves_0_to_1(name):
    shares = [ramp(name)(t) for t in steps]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] == 1


# 90% * (1 - exp(-c t)) / (1 - exp(-c)) at t = .1, .25, .5, .75, rounded to one decimal.
@pytest.mark.parametrize(
    ("c", "percent"),
    [
        (2, (18.9, 41.0, 65.8, 80.9)),
        (4, (30.2, 58.0, 79.3, 87.1)),
        (8, (49.6, 77.8, 88.4, 89.8)),
    ],
)
def test_the_exponential_ramp_has_the_values_of_the_papers_formula(c, percent):
    times = (Fraction("0.1"), Fraction("0.25"), Fraction("0.5"), Fraction("0.75"))
    for setting in ({"name": "exponential", "c": c}, {"name": "exponential", "c": float(c)}):
        assert tuple(round(90 * float(ramp(setting)(t)), 1) for t in times) == percent


def test_the_exponential_ramp_takes_c_4_by_default():
    assert [exponential()(t) for t in steps] == [exponential(4.0)(t) for t in steps]


@pytest.mark.parametrize("c", [1e-12, 1e-3, 700.0, 1e6])
def test_the_exponential_ramp_bears_any_positive_c(c):
    shares = [exponential(c)(t) for t in steps]
    assert shares == sorted(shares) and (shares[0], shares[-1]) == (0, 1)
    if c < 1e-6:
        assert all(abs(float(y - t)) < 1e-6 for y, t in zip(shares, steps, strict=True))


@pytest.mark.parametrize("c", [0, -1.0, float("nan")])
def test_the_exponential_ramp_refuses_other_c(c):
    with pytest.raises(ValueError, match="c > 0"):
        exponential(c)


@given(t=progress)
def test_the_exact_ramps_are_their_formulas(t):
    assert linear()(t) == t
    assert cubic()(t) == 1 - (1 - t) ** 3
    assert constant()(t) == 1
    assert math.isclose(cosine()(t), (1 - math.cos(math.pi * t)) / 2, abs_tol=1e-15)


def test_the_cubic_ramp_has_zhu_and_guptas_values():
    # s_f + (s_i - s_f)(1 - t)^3 with s_i = 0 and s_f = 80%.
    shares = [Fraction("0.8") * cubic()(Fraction(i, 4)) for i in range(5)]
    assert shares == [0, Fraction(37, 80), Fraction(7, 10), Fraction(63, 80), Fraction(4, 5)]


def test_a_piecewise_ramp_goes_straight_through_its_points():
    curve = piecewise(((0, 0), (0.25, 0.5), (0.75, "0.5"), (1, 1)))
    shares = {0: 0, "0.1": "0.2", "0.25": "0.5", "0.5": "0.5", "0.8": "0.6", "0.9": "0.8", 1: 1}
    for t, share in shares.items():
        assert curve(Fraction(t)) == Fraction(share)
    assert piecewise([[0, "1/3"], [1, 1]])(Fraction(1, 2)) == Fraction(2, 3)
    assert piecewise()(Fraction(1, 3)) == Fraction(1, 3)


@pytest.mark.parametrize(
    "points",
    [
        (),
        ((1, 1),),
        ((0, 0), (0.5, 1)),
        ((0, 0), (1, 0.9)),
        ((0.1, 0), (1, 1)),
        ((0, 0), (0.5, 0.5), (0.5, 0.7), (1, 1)),
        ((0, 0), (0.7, 0.5), (0.5, 0.7), (1, 1)),
        ((0, 0), (0.5, 1.2), (1, 1)),
        ((0, -0.1), (1, 1)),
    ],
)
def test_piecewise_points_that_make_no_ramp_are_refused(points):
    with pytest.raises(ValueError, match="piecewise points must rise") as caught:
        piecewise(points)
    assert repr(points) in str(caught.value)


@pytest.mark.parametrize("points", [5, None, (0, 1), ((0, 0, 0), (1, 1, 1)), (("a", 0), (1, 1))])
def test_what_are_no_points_is_refused(points):
    with pytest.raises(ValueError, match="pairs"):
        piecewise(points)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("exponental", "did you mean 'exponential'"),
        ("", "There are: constant, linear"),
        ({"name": "cubik"}, "did you mean 'cubic'"),
        ({"c": 4.0}, "no ramp is called None"),
        ({"name": "exponential", "k": 4.0}, "no setting of the ramp 'exponential' is called 'k'"),
        ({"name": "exponential", "c": "4"}, "c is a float, not '4' (str)"),
        ({"name": "exponential", "c": True}, "c is a float, not True (bool)"),
        ({"name": "linear", "c": 4.0}, "no setting of the ramp 'linear'"),
        (5, "a ramp is a name or a mapping"),
        (None, "a ramp is a name or a mapping"),
        (["linear"], "a ramp is a name or a mapping"),
    ],
)
def test_a_ramp_that_does_not_exist_is_refused_with_what_does(setting, words):
    with pytest.raises(ValueError) as caught:
        ramp(setting)
    assert words in str(caught.value)


def test_a_ramps_setting_is_left_as_it_was():
    setting = {"name": "exponential", "c": 2.0}
    ramp(setting)
    assert setting == {"name": "exponential", "c": 2.0}
