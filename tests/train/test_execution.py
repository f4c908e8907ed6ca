"""Phases on live blocks: the same run as a masked one, on fewer numbers."""

import functools

import jax
import numpy as np
import pytest

from sparsity.families import gated
from sparsity.gates import hoff
from sparsity.methods.grid import grid
from sparsity.methods.magnitude import magnitude
from sparsity.methods.powerprop import powerprop
from sparsity.methods.sequential_attention import sequential_attention
from sparsity.plan import plans
from sparsity.plan.phases import phase
from sparsity.target import final_context
from sparsity.train import agenda, execution
from sparsity.train.loop import Every, Place, compilations, fit, released
from sparsity.units.blocks import Rule
from sparsity.units.partition import leaves
from sparsity.units.scores import norms
from tests.train.executed import FIRST, SECOND, fresh, losses, setting

ACDC = plans.acdc(cycles=2, sparse="15%", dense="10%", last_dense="35%")
ATTENTION = plans.sequential_attention(
    cycles=2, sparsify="10%", sparse="10%", dense="10%", every="5%"
)
ADAMW = {"name": "adamw", "learning_rate": 3e-3, "momentum": None}
# What an engaged layer's storage comes to in the plan's fixed phases, in order.
CASES = {
    "acdc": (magnitude, ACDC, {}, [True, True, True]),
    "gradual": (magnitude, plans.gradual(), ADAMW, [True]),
    "sequential_attention": (sequential_attention, ATTENTION, {}, [False, False, True]),
}
each = pytest.mark.parametrize(
    "name",
    [
        "sequential_attention",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("acdc", "gradual")),
    ],
)
OFTEN = Every(log=10, evaluate=15, save=7)


def moving(partition):
    """Masks that are read off the weights at every step."""
    alive = lambda state, context: {n: s > 0 for n, s in norms(partition, state.params).items()}
    return magnitude(partition)._replace(masks=alive)


def soft(partition):
    """A gate, and nobody who selects."""
    return gated(partition, hoff(), select=None)


@functools.cache
def made(name, mode):
    make, plan, optimiser, _ = CASES[name]
    return setting(make, plan, mode, **optimiser)


@functools.cache
def whole_run(name, mode):
    """(end, losses, {place: the state there}) of a run that is never stopped."""
    run, records = made(name, mode)
    records.clear()
    kept = {}

    def watch(place, held):
        kept[place] = jax.device_get(released(run.programs, held))

    return fit(run._replace(every=OFTEN, watch=watch), fresh(run)), losses(records), kept


def live(run, state):
    """The weights that the model is run with, and the gates."""
    context = final_context(run.target, run.plan)
    applied = run.programs.method.apply(state.wrapped, context)
    return {**leaves(applied.params), **leaves({"gates": state.wrapped.gates})}


def agree(run, one, other):
    masks = [run.programs.method.masks(state.wrapped, None) for state in (one, other)]
    for name in masks[0]:
        np.testing.assert_array_equal(masks[0][name], masks[1][name])
    mine, theirs = live(run, one), live(run, other)
    for path in mine:
        np.testing.assert_allclose(mine[path], theirs[path], rtol=2e-4, atol=2e-5, err_msg=path)


@each
def test_a_whole_plan_on_live_blocks_ends_as_the_masked_one(name):
    run, _ = made(name, "masked")
    (masked, by_mask, _), (sparse, by_blocks, _) = (
        whole_run(name, m) for m in ("masked", "sparse")
    )
    agree(run, masked, sparse)
    np.testing.assert_allclose(by_mask, by_blocks, rtol=1e-4)
    assert by_blocks[-1] < by_blocks[0]


@each
def test_fixed_phases_are_engaged_and_packed_where_nothing_is_missed(name):
    run, _ = made(name, "sparse")
    fixed = [i for i, p in enumerate(run.plan) if p.kind in execution.FIXED]
    for index in range(len(run.plan)):
        ways = agenda.entered(run, index).ways
        assert [way.group for way in ways.layers] == ([FIRST, SECOND] if index in fixed else [])
    packed = [all(w.packed for w in agenda.entered(run, index).ways.layers) for index in fixed]
    assert packed == CASES[name][3]


@each
def test_a_run_resumed_anywhere_ends_with_the_same_bits(name):
    run, _ = made(name, "sparse")
    end, _, kept = whole_run(name, "sparse")
    for place in [Place(step) for step in (7, 10, 29, 44, 59)]:
        again = fit(run._replace(every=OFTEN), jax.device_put(kept[place]))
        for one, other in zip(jax.tree.leaves(end), jax.tree.leaves(again), strict=True):
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes(), place


@each
@pytest.mark.parametrize(("first", "then"), [("sparse", "masked"), ("masked", "sparse")])
def test_a_run_goes_on_under_another_execution(name, first, then):
    run, _ = made(name, then)
    for place in (Place(29, 0), Place(55, 0)):
        agree(
            run,
            fit(run, jax.device_put(whole_run(name, first)[2][place]), 0),
            whole_run(name, then)[0],
        )


@each
def test_new_masks_never_compile_again_and_the_compilations_are_foretold(name):
    run, _ = made(name, "sparse")
    run = run._replace(every=OFTEN)
    fit(run, fresh(run, 2))
    # These runs score nothing in an evaluation.
    foretold = {key for key in compilations(run) if key[0] != "evaluate"}
    assert foretold == set(run.programs.compilations)
    assert {key: n for key, n in run.programs.compilations.items() if n != 1} == {}


def engaged(name, index):
    """(run, what is in force, the state on its layouts) on entering a phase of a plan."""
    run, _ = made(name, "sparse")
    now, first = agenda.entered(run, index), sum(p.length for p in run.plan[:index])
    state = jax.device_put(whole_run(name, "sparse")[2][Place(first + 1, 0)])
    return run, now, run.programs.engage(state, now.context, ways=now.ways)


def test_a_packed_step_computes_nothing_of_a_weight_s_size():
    # The scales of the attention too are one number per block, and are not expanded.
    index = len(made("sequential_attention", "sparse")[0].plan) - 1
    run, now, held = engaged("sequential_attention", index)
    train = functools.partial(run.programs.train.lower, frozen=(), dead=now.phase.dead)
    text = train(held, run.source(0), now.context, now.span).compile().as_text()
    assert "block_sparse_product" in text and "block_sparse_gradient" in text
    assert not [s for s in ("[64,36]", "[36,32]", "[64,40]", "[40,32]") if s in text]
    assert "f32[10,8,8]" in text  # a quarter of 8 x 5 blocks


def test_gradients_of_the_scales_reach_every_logit():
    index = len(made("sequential_attention", "sparse")[0].plan) - 1
    run, now, held = engaged("sequential_attention", index)
    before = jax.device_get(held.state.wrapped.gates)
    after = run.programs.train(
        held, run.source(0), now.context, now.span, frozen=(), dead=now.phase.dead
    )
    for name, logits in after.state.wrapped.gates.items():
        assert (np.asarray(logits) != before[name]).all(), "dead ones through the softmax's sum"


def test_release_gives_back_every_bit_of_what_lives():
    run, now, _ = engaged("acdc", 1)
    state = whole_run("acdc", "sparse")[2][Place(10, 0)]
    back = released(run.programs, run.programs.engage(state, now.context, ways=now.ways))
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(back), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def whys(make, plan, index=-1, mode="sparse", **settings):
    """The reasons for a phase's choices, by group."""
    run, _ = setting(make, plan, mode, **settings)
    return execution.choices(run.programs.execution, run.target, run.plan, index % len(run.plan))


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        (powerprop, {}, "computes weights in the place of params/first/kernel"),
        (grid, {"options": {"mask": "powerprop"}}, "computes weights in the place of"),
        (soft, {}, "the method has no hard mask of it"),
        (moving, {}, "computes its masks of what is trained"),
        (magnitude, {"mode": "masked"}, "execution is masked"),
        (magnitude, {"rules": [Rule("*second/kernel", (8, 8), rows=(1,))]}, "another matrix"),
        (magnitude, {"mode": "auto", "density": "0.9"}, "blocks live"),
    ],
)
def test_a_layer_that_stays_masked_says_why(make, settings, words):
    found = whys(make, plans.one_shot(), **settings)
    last = found[SECOND]
    assert last.way is None and words in last.why


def test_masks_that_move_stay_masked():
    found = whys(magnitude, plans.gradual(), 1)
    assert {choice.why for choice in found.values()} == {"masks are not fixed in a sparsify phase"}


SPARSE = functools.partial(phase, "sparse", "50%")
TWO = phase("dense", "25%") + phase("finetune", "25%")
RESTARTED = phase("dense", "25%", reset="restarted") + phase("finetune", "25%")
PENALISED = {"options": {"mask": "hoff", "mask_penalty": "l2", "strength": 1e-3}}


@pytest.mark.parametrize(
    ("make", "plan", "settings", "words"),
    [
        (magnitude, SPARSE() + TWO, {}, "dead ones are kept and decay until they may come back"),
        (magnitude, SPARSE(dead="zeroed") + TWO, {}, "the moments of dead ones are kept until"),
        (magnitude, SPARSE(dead="zeroed") + RESTARTED, {}, ""),
        (magnitude, SPARSE(dead="zeroed", reset="restarted") + TWO, {}, ""),
        (magnitude, SPARSE() + phase("finetune", "50%"), {}, ""),
        (grid, SPARSE() + phase("finetune", "50%"), PENALISED, "dead ones are kept and decay"),
        (magnitude, SPARSE(dead="zeroed") + RESTARTED, {"name": "lamb"}, "lamb scales an update"),
    ],
)
def test_weights_are_packed_only_where_no_number_is_missed(make, plan, settings, words):
    optimiser = {"momentum": None} if "name" in settings else {}
    found = whys(make, plan, 0, **settings, **optimiser)
    assert all(choice.way.packed == (not words) for choice in found.values())
    assert all(words in choice.why for choice in found.values())


def test_a_method_that_counts_by_rules_of_its_own_is_refused_in_words():
    run, _ = setting(magnitude, plans.static(), "sparse", options={"select": "globally"})
    words = "the method keeps .* blocks of params/.* where the plan says .*execution='masked'"
    with pytest.raises(ValueError, match=words):
        fit(run, fresh(run))
