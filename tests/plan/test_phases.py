"""Phases add up to the run; what does not is refused in words."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.plan.phases import Kind, parse, phase, starts


def refused(function, *args, **kwargs):
    with pytest.raises(ValueError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def parsed(plan, steps=100, steps_per_epoch=10, **kwargs):
    return parse(plan, steps=steps, steps_per_epoch=steps_per_epoch, **kwargs)


def lengths(*given, steps=100, steps_per_epoch=10):
    plan = sum((phase("sparse", length) for length in given), ())
    return [p.length for p in parse(plan, steps=steps, steps_per_epoch=steps_per_epoch)]


# Phases.


def test_plans_add_and_repeat_like_tuples():
    dense, sparse = phase("dense", "1it"), phase("sparse", "2it")
    plan = dense + 2 * (sparse + dense) + phase("finetune", "3it")
    assert [p.kind for p in plan] == ["dense", "sparse", "dense", "sparse", "dense", "finetune"]
    assert [p.length for p in parsed(plan, steps=None)] == [1, 2, 1, 2, 1, 3]
    assert starts(parsed(plan, steps=None)) == [0, 1, 3, 4, 6, 7, 10]


@pytest.mark.parametrize(
    ("kind", "shares"),
    [("dense", (0, 0)), ("sparsify", (0, 1)), ("sparse", (1, 1)), ("finetune", (1, 1))],
)
def test_a_kind_has_its_own_share(kind, shares):
    (p,) = phase(kind, "1it")
    assert isinstance(p.kind, Kind) and p.shares == shares
    assert all(isinstance(share, Fraction) for share in p.shares)


def test_shares_are_exact_decimals():
    assert phase("sparsify", "1it", share=(0.1, "0.9"))[0].shares == (
        Fraction(1, 10),
        Fraction(9, 10),
    )


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("spars", {}, "no phase is called 'spars'; did you mean 'sparse'?"),
        ("fine-tune", {}, "did you mean 'finetune'?"),
        (None, {}, "There are: dense, sparsify, sparse, finetune"),
        ("dense", {"evry": "1%"}, "no setting of a phase is called 'evry'; did you mean 'every'?"),
        ("dense", {"reset": "zero"}, "no value of 'reset' is called 'zero'; did you mean 'zeroed'"),
        ("dense", {"reset": None}, "There are: kept, zeroed, restarted"),
        ("dense", {"dead": "restarted"}, "There are: kept, zeroed"),
        ("dense", {"lr": 0.0}, "lr a positive number"),
        ("dense", {"lr": -1}, "lr a positive number"),
        ("dense", {"lr": float("nan")}, "lr a positive number"),
        ("dense", {"lr": "0.1"}, "lr a positive number"),
        ("dense", {"lr": True}, "lr a positive number"),
        ("dense", {"frozen": "gates/*"}, "frozen is a tuple of patterns"),
        ("dense", {"frozen": 3}, "frozen is a tuple of patterns"),
        ("sparsify", {"regrow": "no"}, "regrow true or false"),
        ("dense", {"share": (0, 1)}, "0 if dense"),
        ("sparse", {"share": (0, 1)}, "shares that move need a sparsify phase"),
        ("finetune", {"share": (0.5, 1)}, "shares that move need a sparsify phase"),
        ("sparsify", {"share": (0, 1.1)}, "each in [0, 1]"),
        ("sparsify", {"share": (-0.1, 1)}, "each in [0, 1]"),
        ("sparsify", {"share": (0, float("nan"))}, "two numbers in [0, 1]"),
        ("sparsify", {"share": 0.5}, "two numbers in [0, 1]"),
        ("sparsify", {"share": (0, 0.5, 1)}, "two numbers in [0, 1]"),
        ("sparsify", {"share": ("a", 1)}, "two numbers in [0, 1]"),
        ("sparsify", {"ramp": "exponentail"}, "did you mean 'exponential'"),
        ("sparsify", {"ramp": {"name": "exponential", "d": 1}}, "is called 'd'"),
        ("sparsify", {"ramp": 4}, "a ramp is a name or a mapping"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(kind, settings, words):
    assert words in refused(phase, kind, "10%", **settings)


# Lengths.


@pytest.mark.parametrize(
    ("length", "steps"),
    [("10%", 10), ("2ep", 20), ("7it", 7), (7, 7), ("1.5ep", 15), ("12.5%", 12), (" 10 % ", 10)],
)
def test_a_length_is_percent_epochs_or_steps(length, steps):
    rest = {"12.5%": "87.5%"}.get(length, f"{100 - steps}it")
    assert lengths(length, rest) == [steps, 100 - steps]


def test_lengths_of_all_kinds_add_up():
    assert lengths("10%", "3ep", "25it", 35) == [10, 30, 25, 35]
    assert lengths("10/3%", "10/3%", "10/3%", "90%", steps=1000) == [33, 33, 34, 900]


def test_epochs_and_steps_need_no_length_of_the_run():
    plan = phase("dense", "2ep") + phase("finetune", "5it")
    assert [p.length for p in parsed(plan, steps=None)] == [20, 5]
    words = refused(parsed, phase("finetune", "50%") * 2, steps=None)
    assert "'50%'" in words and "steps of the run" in words


@given(
    parts=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    steps=st.integers(500, 3000),
)
def test_percentages_fill_the_run_to_the_last_step(parts, steps):
    plan = sum((phase("sparse", f"{100 * n}/{sum(parts)}%") for n in parts), ())
    found = starts(parsed(plan, steps=steps))
    assert found[0] == 0 and found[-1] == steps
    for edge, total in zip(found, itertools.accumulate(parts, initial=0), strict=True):
        assert edge == steps * total // sum(parts)


@pytest.mark.parametrize(
    "length",
    [
        "10",
        "ten%",
        "10ms",
        "",
        "%",
        "-5%",
        "1e%",
        "nanit",
        "inf%",
        None,
        True,
        0.1,
        -3,
        [10],
        "5%%",
    ],
)
def test_what_is_no_length_is_refused(length):
    words = refused(parsed, phase("dense", length) + phase("finetune", "90%"))
    assert "'10%', '8ep' or '500it'" in words and str(length) in words


def test_an_interval_is_a_length_too():
    plan = phase("sparsify", "50%", every="2ep") + phase("finetune", "50%")
    assert [p.every for p in parsed(plan)] == [20, 1]
    assert "'soon'" in refused(parsed, phase("sparsify", "100%", every="soon"))


def test_an_interval_is_at_least_one_step():
    assert parsed(phase("sparsify", "100%", every="0.1%"))[0].every == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("50%", "40%"), "add up to 90 of 100 steps (90% of the run)"),
        (("50%", "60%"), "add up to 110 of 100 steps (110% of the run)"),
        (("33.3%", "33.3%", "33.3%"), "add up to 99.9 of 100 steps"),
        (("50%", "6ep"), "add up to 110 of 100 steps"),
        (("50%", "49it"), "sparse 50% + sparse 49it"),
    ],
)
def test_phases_that_do_not_add_up_are_refused(given, words):
    assert words in refused(lengths, *given)


@pytest.mark.parametrize(
    "given", [("0%", "100%"), ("0it", "100%"), ("0.4%", "99.6%"), ("99.6%", "0.2%", "0.2%")]
)
def test_a_phase_without_a_step_is_refused(given):
    words = refused(lengths, *given)
    assert "no step" in words and "100" in words


def test_a_plan_without_a_phase_is_refused():
    assert "no phase" in refused(parsed, ())


@pytest.mark.parametrize(
    "plan",
    [
        phase("dense", "100%"),
        phase("finetune", "50%") + phase("dense", "50%"),
        phase("sparsify", "100%", share=(0, 0.9)),
        phase("sparse", "100%", share=("1/2", "1/2")),
    ],
)
def test_a_plan_that_ends_short_of_a_sparse_model_is_refused(plan):
    assert "though a sparse model was asked" in refused(parsed, plan)
    assert parsed(plan, sparse=False)
