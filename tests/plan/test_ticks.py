"""Ticks are a function of the plan and the step alone."""

import functools
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from sparsity.plan.phases import Kind, phase, share_at, starts, walk
from sparsity.plan.schedules import ramp
from tests.plan.test_phases import parsed


def ticks(plan, steps=100, start=0):
    return list(walk(parsed(plan, steps=steps, sparse=False), start))


def test_a_ramp_ends_at_its_target_though_the_interval_does_not_divide():
    plan = (
        phase("dense", "20it") + phase("sparsify", "50it", every="7it") + phase("finetune", "30it")
    )
    inside = [t for t in ticks(plan) if t.index == 1]
    assert [t.step for t in inside] == [20, 27, 34, 41, 48, 55, 62, 69, 70]
    assert [t.event for t in inside] == ["enter", *["inside"] * 7, "last"]
    assert [t.share for t in inside] == [*(Fraction(7 * i, 50) for i in range(8)), 1]
    assert share_at(parsed(plan), 69) == Fraction(49, 50)
    assert share_at(parsed(plan), 70) == 1


def test_an_interval_that_divides_makes_no_tick_twice():
    plan = phase("sparsify", "20it", every="5it") + phase("finetune", "80it")
    assert [t.step for t in ticks(plan)] == [0, 5, 10, 15, 20, 20]
    assert [t.event for t in ticks(plan)][-2:] == ["last", "enter"]


def test_an_interval_longer_than_the_phase_ticks_at_its_ends():
    plan = phase("sparsify", "20it", every="1ep") + phase("finetune", "80it")
    assert [t.step for t in ticks(plan)] == [0, 10, 20, 20]
    plan = phase("sparsify", "20it", every="90it") + phase("finetune", "80it")
    assert [(t.step, t.share) for t in ticks(plan)] == [(0, 0), (20, 1), (20, 1)]


def test_a_ramp_goes_between_the_shares_of_its_phase():
    shape = {"name": "exponential", "c": 3.0}
    plan = phase("sparsify", "100it", share=(0.2, 0.7), ramp=shape, every="10it")
    curve = ramp(shape)
    expected = [Fraction("0.2") + Fraction("0.5") * curve(Fraction(i, 10)) for i in range(11)]
    assert [t.share for t in ticks(plan)] == expected
    assert expected[-1] == Fraction("0.7")
    back = phase("sparsify", "100it", share=(1, 0), every="50it")
    assert [t.share for t in ticks(back)] == [1, Fraction(1, 2), 0]


def test_a_constant_ramp_is_there_at_once():
    plan = phase("sparsify", "100it", ramp="constant", every="50it")
    assert [t.share for t in ticks(plan)] == [1, 1, 1]


def selects(plan):
    return [(t.event, t.index) for t in ticks(plan) if t.select]


def test_acdc_selects_on_entering_each_sparse_phase_and_never_else():
    sparse, dense = phase("sparse", "10it"), phase("dense", "10it")
    plan = dense + 3 * (sparse + dense) + phase("finetune", "30it")
    assert selects(plan) == [("enter", 1), ("enter", 3), ("enter", 5), ("enter", 7)]
    assert [t.share for t in ticks(plan)] == [0, 1, 0, 1, 0, 1, 0, 1]


def test_one_shot_selects_on_entering_the_finetuning():
    assert selects(phase("dense", "80it") + phase("finetune", "20it")) == [("enter", 1)]
    assert selects(phase("finetune", "100it")) == [("enter", 0)]


def test_what_a_ramp_has_reached_is_not_selected_again():
    plan = phase("sparsify", "50it", every="25it") + phase("sparse", "25it")
    plan += phase("finetune", "25it")
    assert selects(plan) == [("enter", 0), ("inside", 0), ("last", 0)]


def test_a_share_that_jumps_is_selected_anew():
    half = phase("sparse", "50it", share=(0.5, 0.5))
    assert selects(half + phase("finetune", "50it")) == [("enter", 0), ("enter", 1)]
    assert selects(half + half) == [("enter", 0)]
    short = phase("sparsify", "50it", share=(0, 0.9), every="50it")
    assert selects(short + phase("finetune", "50it"))[-1] == ("enter", 1)


def test_a_dense_phase_selects_nothing():
    assert selects(phase("dense", "50it") + phase("dense", "50it")) == []
    assert [t.share for t in ticks(phase("finetune", "50it") + phase("dense", "50it"))] == [1, 0]


def regrows(plan):
    return [t.regrow for t in ticks(plan) if t.index == len(plan) - 1]


def test_only_a_ramp_that_says_so_forbids_regrowth_and_not_after_a_dense_phase():
    settle = {"every": "10it", "regrow": False}
    ramp_down = phase("sparsify", "30it", **settle)
    # On leaving a dense phase nothing is dead that a mask of ones could not revive.
    assert regrows(phase("dense", "70it") + ramp_down) == [True, False, False, False]
    assert ticks(ramp_down + phase("finetune", "70it"))[0].regrow
    half = phase("sparse", "70it", share=(0.5, 0.5))
    tighter = phase("sparsify", "30it", share=(0.5, 1), **settle)
    assert regrows(half + tighter) == [False, False, False, False]
    assert regrows(half + phase("sparsify", "30it", share=(0.5, 1), every="10it")) == [True] * 4
    assert regrows(ramp_down + phase("finetune", "70it")) == [True]


@functools.cache
def cycles(n):
    cycle = (
        phase("sparsify", "7it", every="3it", ramp="cubic", regrow=False)
        + phase("sparse", "5it")
        + phase("dense", "4it")
    )
    plan = phase("dense", "10it") + n * cycle + phase("sparsify", "9it", every="2it")
    return parsed(plan + phase("finetune", "6it"), steps=None)


def test_a_plan_of_n_cycles_has_n_times_the_ticks_of_a_cycle():
    # enter, 3, 6, last; enter; enter.
    for n in (1, 2, 5):
        assert len(list(walk(cycles(n)))) == 1 + 6 * n + 6 + 1
        assert starts(cycles(n))[-1] == 25 + 16 * n


def test_a_tick_says_where_in_its_phase_it_is():
    found = list(walk(cycles(2)))
    assert [t.step for t in found] == sorted(t.step for t in found)
    edges = starts(cycles(2))
    for t in found:
        assert t.step == edges[t.index] + t.progress * (edges[t.index + 1] - edges[t.index])
        assert (t.progress == 1) == (t.event == "last")
        assert (t.progress == 0) == (t.event == "enter")


lengths_of = st.integers(1, 12)
shares_of = st.sampled_from([0, "1/3", "0.5", 1])


@st.composite
def phases_of(draw):
    kind = draw(st.sampled_from(list(Kind)))
    settings = {"every": f"{draw(lengths_of)}it", "regrow": draw(st.booleans())}
    if kind == Kind.SPARSIFY:
        settings |= {"share": (draw(shares_of), draw(shares_of))}
        settings |= {"ramp": draw(st.sampled_from(["linear", "cubic", "constant", "exponential"]))}
    elif kind != Kind.DENSE:
        share = draw(shares_of)
        settings |= {"share": (share, share)}
    return phase(kind, f"{draw(lengths_of)}it", **settings)


plans = st.lists(phases_of(), min_size=1, max_size=6).map(lambda parts: sum(parts, ()))


@given(plan=plans, data=st.data())
def test_a_walk_from_any_step_is_the_tail_of_the_whole_walk(plan, data):
    plan = parsed(plan, steps=None, sparse=False)
    whole = list(walk(plan))
    start = data.draw(st.integers(0, starts(plan)[-1] + 1))
    assert list(walk(plan, start)) == [t for t in whole if t.step >= start]
    assert whole == list(walk(plan)) == list(walk(plan, 0))


@given(plan=plans)
def test_the_last_update_of_a_ramp_always_lands(plan):
    plan = parsed(plan, steps=None, sparse=False)
    edges = starts(plan)
    for index, p in enumerate(plan):
        inside = [t for t in walk(plan) if t.index == index]
        assert inside[0].event == "enter" and inside[0].step == edges[index]
        assert all(0 <= t.share <= 1 for t in inside)
        if p.kind == Kind.SPARSIFY:
            assert (inside[-1].event, inside[-1].step) == ("last", edges[index + 1])
            assert inside[-1].share == p.shares[1] and inside[-1].select
            steps = [t.step for t in inside]
            assert len(set(steps)) == len(steps)
        else:
            assert len(inside) == 1 and inside[0].share == p.shares[0]


@given(plan=plans)
def test_masks_in_force_are_always_those_of_the_share(plan):
    """Whenever the share changes to one that is not dense, masks are chosen."""
    plan = parsed(plan, steps=None, sparse=False)
    chosen = None  # the share of the masks that were chosen last
    for tick in walk(plan):
        chosen = tick.share if tick.select else chosen
        if plan[tick.index].kind != Kind.DENSE:
            assert chosen == tick.share


@given(plan=plans)
def test_the_share_at_a_step_is_that_of_the_last_tick_before_it(plan):
    plan = parsed(plan, steps=None, sparse=False)
    share, pending = None, list(walk(plan))
    for step in range(starts(plan)[-1] + 1):
        while pending and pending[0].step == step:
            share = pending.pop(0).share
        assert share_at(plan, step) == share
