"""The plans by name have the boundaries that their papers publish."""

import math
from fractions import Fraction

import pytest

from sparsity.named import call
from sparsity.plan import plans
from sparsity.plan.phases import parse, phase, share_at, starts, walk

NAMES = ("dense", "static", "one_shot", "gradual", "acdc", "sequential_attention")


def run(plan, epochs=100, per_epoch=10, **kwargs):
    return parse(plan, steps=epochs * per_epoch, steps_per_epoch=per_epoch, **kwargs)


def in_epochs(plan, per_epoch=10):
    """[(kind, first epoch, last epoch)] of a parsed plan."""
    edges = [Fraction(edge, per_epoch) for edge in starts(plan)]
    return [(p.kind.value, *edges[i : i + 2]) for i, p in enumerate(plan)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [300, 600, 617, 56_304])
def test_a_plan_fills_the_whole_run(name, steps):
    plan = parse(getattr(plans, name)(), steps=steps, steps_per_epoch=7, sparse=name != "dense")
    assert starts(plan)[-1] == steps
    assert sum(Fraction(p.length) for p in plan) == steps


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_plan_ends_sparse(name):
    plan = run(getattr(plans, name)())
    assert plan[-1].kind == "finetune"
    assert share_at(plan, 999) == 1


# Peste et al.: 0-based epochs of the 100-epoch ResNet-50 run.
def test_acdc_has_its_published_boundaries():
    plan = run(plans.acdc())
    expected = [("dense", 0, 10)]
    for start in range(10, 70, 10):
        expected += [("sparse", start, start + 5), ("dense", start + 5, start + 10)]
    expected += [("sparse", 70, 75), ("dense", 75, 85), ("finetune", 85, 100)]
    assert in_epochs(plan) == expected
    pruned = [t.step // 10 for t in walk(plan) if t.select]
    restored = [t.step // 10 for t in walk(plan) if t.share == 0 and t.step]
    assert pruned == [10, 20, 30, 40, 50, 60, 70, 85]
    assert restored == [15, 25, 35, 45, 55, 65, 75]
    sparse = sum(p.length for p in plan if p.kind != "dense")
    assert sparse == 500  # 50 epochs sparse, 50 dense


def test_acdc_takes_90_epochs_in_the_same_shares():
    # 9 | 7 x (4.5 sparse + 4.5 dense) | 4.5 more dense | 13.5 sparse.
    found = in_epochs(run(plans.acdc(), epochs=90))
    assert found[0] == ("dense", 0, 9) and found[1] == ("sparse", 9, Fraction("13.5"))
    assert found[-2:] == [("dense", Fraction("67.5"), Fraction("76.5")), ("finetune", 76.5, 90)]


def test_acdc_zeroes_weights_and_restarts_the_momentum_of_dense_phases_only():
    plan = plans.acdc()
    assert {p.dead for p in plan if p.kind != "dense"} == {"zeroed"}
    assert {p.reset for p in plan[1:] if p.kind == "dense"} == {"restarted"}
    assert {p.reset for p in plan if p.kind != "dense"} == {"kept"} == {plan[0].reset}
    assert {p.dead for p in plans.acdc(dead="kept")} == {"kept"}


def test_acdc_takes_other_cycles():
    # The 200-epoch variant: pruned every 10 epochs to 170, restored to 175, sparse from 185.
    plan = run(plans.acdc("5%", 17, "2.5%", "2.5%", last_dense="5%", finetune="7.5%"), epochs=200)
    pruned = [t.step / 10 for t in walk(plan) if t.select]
    assert pruned == [*range(10, 180, 10), 185]
    one = in_epochs(run(plans.acdc(cycles=1, warmup="70%")))
    assert [kind for kind, _, _ in one] == ["dense", "sparse", "dense", "finetune"]


def test_sequential_attention_has_its_published_boundaries():
    # 90 epochs: dense to 9, six cycles of 9 epochs in thirds to 63, sparsify to 76.5, sparse to 90.
    plan = run(plans.sequential_attention(), epochs=90)
    expected = [("dense", 0, 9)]
    for start in range(9, 63, 9):
        expected += [
            ("sparsify", start, start + 3),
            ("sparse", start + 3, start + 6),
            ("dense", start + 6, start + 9),
        ]
    expected += [("sparsify", 63, Fraction("76.5")), ("finetune", Fraction("76.5"), 90)]
    assert in_epochs(plan) == expected


def test_sequential_attention_restarts_the_optimiser_at_each_phase():
    plan = plans.sequential_attention()
    assert {p.reset for p in plan[1:]} == {"restarted"}
    assert {p.dead for p in plan} == {"kept"}
    ramps = [p.ramp for p in plan if p.kind == "sparsify"]
    assert ramps == [{"name": "exponential", "c": 4.0}] * 7


def test_sequential_attention_ramps_exponentially_to_its_target():
    plan = run(plans.sequential_attention(), epochs=90, per_epoch=100)
    shares = [t.share for t in walk(plan) if t.index == 19]
    assert shares[0] == 0 and shares[-1] == 1 and len(shares) == 46  # every third of a percent
    share = next(t.share for t in walk(plan) if t.index == 19 and t.progress == Fraction(2, 3))
    assert math.isclose(share, (1 - math.exp(-8 / 3)) / (1 - math.exp(-4)))


def test_sequential_attention_fits_criteo():
    # 25 epochs: 5 dense, ten cycles of 1.5, 5 sparse. Unlike there, a ramp of its own at the end.
    plan = run(
        plans.sequential_attention("20%", 10, "2%", "2%", "2%", last_sparsify="5%", finetune="15%"),
        epochs=25,
        per_epoch=200,
    )
    edges = starts(plan)
    assert edges[1] == 1000 and [edges[1 + 3 * i] for i in range(11)] == [*range(1000, 4300, 300)]


def test_one_shot_selects_once():
    plan = run(plans.one_shot())
    assert in_epochs(plan) == [("dense", 0, 85), ("finetune", 85, 100)]
    assert [(t.step, t.share) for t in walk(plan) if t.select] == [(850, 1)]


def test_static_selects_before_the_first_step():
    plan = run(plans.static())
    assert [(t.step, t.share, t.select) for t in walk(plan)] == [(0, 1, True)]


def test_gradual_is_cubic_and_never_frees_what_it_has_tightened():
    plan = run(plans.gradual())
    assert in_epochs(plan) == [("dense", 0, 20), ("sparsify", 20, 70), ("finetune", 70, 100)]
    found = [t for t in walk(plan) if t.index == 1]
    assert len(found) == 51
    for t in found:
        assert t.share == 1 - (1 - Fraction(t.step - 200, 500)) ** 3


def test_dense_never_selects():
    plan = run(plans.dense(), sparse=False)
    assert not any(t.select for t in walk(plan))
    with pytest.raises(ValueError, match="though a sparse model was asked"):
        run(plans.dense())


def test_shares_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match=r"add up to 950 of 1000 steps \(95% of the run\)"):
        run(plans.acdc(warmup="5%"))
    with pytest.raises(ValueError, match="add up"):
        run(plans.acdc(cycles=8))
    with pytest.raises(ValueError, match="add up"):
        run(plans.sequential_attention(sparsify="3.33%", sparse="3.33%", dense="3.33%"))


def test_a_run_too_short_for_its_phases_is_refused():
    with pytest.raises(ValueError, match="the dense phase of '10%' has no step in a run of 8"):
        run(plans.acdc(), epochs=1, per_epoch=8)


def test_a_plan_may_be_spelt_out():
    entries = [
        {"kind": "dense", "length": "20it"},
        {"kind": "sparsify", "length": "3ep", "ramp": {"name": "exponential", "c": 2.0}},
        {"kind": "finetune", "length": "50%", "lr": 0.1, "frozen": ("gates/*",)},
    ]
    spelt = plans.phases(entries)
    assert spelt == (
        phase("dense", "20it")
        + phase("sparsify", "3ep", ramp={"name": "exponential", "c": 2.0})
        + phase("finetune", "50%", lr=0.1, frozen=("gates/*",))
    )
    assert starts(parse(spelt, steps=100, steps_per_epoch=10)) == [0, 20, 50, 100]
    assert plans.phases() == ()


@pytest.mark.parametrize(
    "entry", ["dense", {"kind": "dense"}, {"length": "1it"}, ("dense", "1it"), None, 3]
)
def test_what_spells_no_phase_is_refused(entry):
    with pytest.raises(ValueError, match="a mapping with 'kind' and 'length'"):
        plans.phases([entry])
    with pytest.raises(ValueError, match="is called 'evry'"):
        plans.phases([{"kind": "dense", "length": "1it", "evry": "1%"}])


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("acdc", {"cycle": 3}, "no setting of it is called 'cycle'; did you mean 'cycles'?"),
        ("acdc", {"cycles": "7"}, "cycles is a int, not '7' (str)"),
        ("acdc", {"dead": "zero"}, "did you mean 'zeroed'"),
        ("gradual", {"ramp": "qubic"}, "did you mean 'cubic'"),
        ("sequential_attention", {"c": 0.0}, "c > 0"),
        ("sequential_attention", {"regrow": 1}, "regrow is a bool"),
    ],
)
def test_settings_of_a_plan_are_checked(name, settings, words):
    with pytest.raises(ValueError) as caught:
        call("it", getattr(plans, name), settings=settings)
    assert words in str(caught.value)
