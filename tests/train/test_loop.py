"""The loop and its programs: what a plan asks for happens, once compiled, the same at every call."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sparsity.contract import Method, Signals
from sparsity.methods.dense import dense
from sparsity.methods.grid import grid
from sparsity.methods.magnitude import magnitude
from sparsity.methods.powerprop import powerprop
from sparsity.methods.sequential_attention import sequential_attention
from sparsity.plan import plans
from sparsity.plan.phases import parse, phase
from sparsity.target import Target, final_context
from sparsity.train.forward import linen
from sparsity.train.loop import Diverged, Every, Place, Run, compilations, fit
from sparsity.train.objectives import cross_entropy
from sparsity.train.optimizer import optimizer
from sparsity.train.step import Span, programs
from sparsity.units.blocks import Rule, blocks
from sparsity.units.partition import leaves, pool

STEPS = 60
KERNEL = "params/first/kernel"


class Net(nn.Module):
    """Two layers with a norm between them, so that there are vectors and batch statistics."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(32, dtype=self.dtype, name="first")(x)
        x = nn.BatchNorm(use_running_average=not train, dtype=self.dtype, momentum=0.9)(x)
        return nn.Dense(4, dtype=self.dtype, name="head")(nn.relu(x)).astype(jnp.float32)


def draw(source, step, key):
    images, labels = source
    rows = jax.random.randint(key, (32,), 0, images.shape[0])
    return {"image": images[rows], "label": labels[rows]}


@functools.cache
def data():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(256, 16)).astype(np.float32)
    labels = (images[:, :2] > 0).astype(np.int32) @ np.array([1, 2], np.int32)
    return jax.device_put((images, labels))


def setting(make, plan, density="0.25", dtype=jnp.float32, **options):
    """(run, fresh state) of a method under a plan; the method gets the partition and its options."""
    model = linen(Net(dtype))
    shapes, _ = jax.eval_shape(model.init, jax.random.key(0), data()[0][:1])
    target = Target.of(blocks(shapes, [Rule("*", (4, 4))], density=density, at_least=1))
    tx = optimizer(name="sgd", learning_rate=0.1, steps=STEPS, momentum=0.9, weight_decay=1e-4)
    made = programs(
        model, make(target.partition, **options), target.partition, tx, draw, cross_entropy()
    )
    parsed = parse(plan, steps=STEPS, steps_per_epoch=10, sparse=density != "1")
    records: list = []
    run = Run(
        programs=made,
        plan=parsed,
        target=target,
        source=lambda step, batches=1: data(),
        evaluate=lambda state, context: {"accuracy": accuracy(made, state, context)},
        emit=records.append,
        every=Every(log=10),
    )
    return run, made.create(jax.random.key(1), data()[0][:1]), records


def accuracy(made, state, context):
    images, labels = data()
    batch = {"image": images, "label": labels, "weight": jnp.ones(len(labels))}
    return float(made.evaluate(state, context, batch)["correct"]) / len(labels)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


CASES = {
    "dense": (dense, plans.dense(), {}),
    "one_shot": (magnitude, plans.one_shot(), {}),
    "gradual": (magnitude, plans.gradual(), {}),
    "acdc": (magnitude, plans.acdc(cycles=2, sparse="15%", dense="10%", last_dense="35%"), {}),
    "powerprop": (powerprop, plans.one_shot(), {}),
    "sequential_attention": (
        sequential_attention,
        plans.sequential_attention(cycles=2, sparsify="10%", sparse="10%", dense="10%", every="5%"),
        {},
    ),
    "fisher": (grid, plans.gradual(), {"mask": "softmax", "score": "fisher", "batches": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_whole_plan_trains_hits_its_count_and_compiles_once_per_key(name):
    run, _, records = _cached_setting(name)
    records.clear()
    state = fit(run, fresh(run))
    losses = [record["loss"] for record in records if record["event"] == "train"]
    assert losses[-1] < losses[0]
    assert set(run.programs.compilations.values()) == {1}
    masks = run.programs.method.masks(state.wrapped, final_context(run.target, run.plan))
    assert {path: int(mask.sum()) for path, mask in masks.items()} == (
        {} if name == "dense" else {KERNEL: 8}
    )
    fit(run, fresh(run, 2))
    assert set(run.programs.compilations.values()) == {1}, "another seed compiled again"


def test_another_density_does_not_compile_again():
    run, _, _ = _cached_setting("gradual")
    fit(run, fresh(run))
    before = dict(run.programs.compilations)
    other = run.target._replace(densities={KERNEL: Fraction(1, 8)})
    state = fit(run._replace(target=other), fresh(run))
    assert int(run.programs.method.masks(state.wrapped, None)[KERNEL].sum()) == 4
    assert run.programs.compilations == before


# Tests that share a setting share its programs, so that each of them is to ask for the same ones.
OFTEN = Every(log=10, evaluate=15, save=7)


@functools.cache
def whole_run(name):
    """(end, records, {place: (the state there, records before it)}) of a run that is never stopped."""
    run, _, records = _cached_setting(name)
    records.clear()
    kept = {}

    def watch(place, state):
        kept[place] = jax.device_get(state), len(records)

    return fit(run._replace(every=OFTEN, watch=watch), fresh(run)), list(records), kept


@pytest.mark.parametrize("name", ["acdc", "sequential_attention", "fisher"])
def test_a_run_resumed_at_any_place_ends_with_the_same_bits_and_records(name):
    run, _, records = _cached_setting(name)
    run = run._replace(every=OFTEN)
    first, whole, kept = whole_run(name)
    several = [place for place in kept if place.acts] + [Place(18), Place(37), Place(59)]
    assert {place.acts for place in several} >= {0, 1, 2, 3}
    for place in several:
        state, before = kept[place]
        records.clear()
        second = fit(run, jax.device_put(state), place.acts)
        assert bits(first) == bits(second), place
        assert whole[before:] == records, place


@pytest.mark.parametrize("name", CASES)
def test_the_compilations_to_come_are_those_that_come(name):
    run, _, _ = _cached_setting(name)
    run = run._replace(every=OFTEN)
    fit(run, fresh(run))
    assert set(compilations(run)) == set(run.programs.compilations)


@functools.cache
def _cached_setting(name):
    make, plan, options = CASES[name]
    return setting(make, plan, "1" if name == "dense" else "0.25", **options)


def fresh(run, seed=1):
    return run.programs.create(jax.random.key(seed), data()[0][:1])


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    run, _, _ = _cached_setting("acdc")
    ends = [bits(fit(run, fresh(run, seed))) for seed in (3, 3, 4)]
    assert ends[0] == ends[1]
    assert ends[0] != ends[2]


@pytest.mark.parametrize("dead", ["zeroed", "kept"])
def test_the_first_dense_step_sees_zeros_or_the_old_weights(dead):
    plan = (
        phase("dense", "50%")
        + phase("sparse", "20%", dead=dead)
        + phase(
            "dense", "20%", lr=1e-30
        )  # the weights stand still: what was revived stays to be seen
        + phase("finetune", "10%")
    )
    run, state, _ = setting(magnitude, plan)
    seen = {}
    saving = run._replace(
        every=Every(save=1), save=lambda place, s: seen.setdefault(place.step, jax.device_get(s))
    )
    fit(saving, state)
    mask = seen[40].wrapped.memory.masks[KERNEL]
    norm = lambda step: np.sqrt(
        pool(run.target.partition, _squared(seen[step].wrapped.params))[KERNEL]
    )
    revived = np.asarray(norm(43))[~mask]
    assert mask.sum() == 8
    if dead == "zeroed":
        assert (revived == 0).all()
        assert (np.asarray(norm(38))[~mask] == 0).all()
    else:
        assert (revived > 0).all()


def _squared(params):
    return jax.tree.map(np.square, params)


def test_dead_weights_that_are_zeroed_stay_zero_under_momentum_and_decay():
    run, state, _ = setting(magnitude, plans.one_shot(dead="zeroed"))
    state = fit(run, state)
    norms = pool(run.target.partition, _squared(state.wrapped.params))[KERNEL]
    assert ((np.asarray(norms) > 0) == np.asarray(state.wrapped.memory.masks[KERNEL])).all()


def test_a_phase_that_zeroes_under_masks_that_stay_begins_with_zeros():
    plan = (
        phase("dense", "50%")
        + phase("sparse", "20%", dead="kept")
        + phase("finetune", "30%", dead="zeroed")
    )
    run, state, _ = setting(magnitude, plan)
    norms = {}

    def watch(place, state):
        wrapped = jax.device_get(state.wrapped)
        norms[place] = np.asarray(pool(run.target.partition, _squared(wrapped.params))[KERNEL])[
            ~np.asarray(wrapped.memory.masks[KERNEL])
        ]

    fit(run._replace(watch=watch, every=Every(log=0)), state)
    assert (norms[Place(42, 0)] > 0).all(), "kept before it"
    assert (norms[Place(42, 1)] == 0).all(), "zeroed before its first step"
    assert set(compilations(run)) == set(run.programs.compilations)


def test_a_step_that_zeroes_ends_as_one_that_keeps_and_is_buried_after_it():
    # The forward pass of the first is not masked, that of the second is.
    run, state, _ = setting(magnitude, plans.one_shot(dead="zeroed"))
    made, context = run.programs, final_context(run.target, run.plan)
    span = jax.device_put(Span(np.int32(0), np.int32(STEPS), np.float32(1.0)))
    state, _ = made.tick(state, context, Signals(), dead="zeroed")
    other = jax.tree.map(jnp.copy, state)
    for _ in range(3):
        state = made.train(state, data(), context, span, frozen=(), dead="zeroed")
        other = made.train(other, data(), context, span, frozen=(), dead="kept")
        other = made.bury(other, context)
    for one, another in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-5, atol=1e-7)


def test_the_learning_rate_of_a_plan_with_resets_is_that_of_one_without():
    def moved(reset):
        plan = (
            phase("dense", "50%") + phase("sparse", "40%", reset=reset) + phase("finetune", "10%")
        )
        run, state, _ = setting(lambda partition: Method(), plan, "1")
        return fit(run, state)

    counts = [
        [np.asarray(x) for x in jax.tree.leaves(moved(reset).opt) if x.dtype == jnp.int32]
        for reset in ("kept", "restarted")
    ]
    assert counts[0] == counts[1] and max(counts[0]) == STEPS


def test_frozen_leaves_stand_still_and_others_move():
    plan = phase("dense", "50%") + phase("finetune", "50%", frozen=("params/params/head/*",))
    run, state, _ = setting(magnitude, plan)
    seen = {}
    saving = run._replace(
        every=Every(save=30), save=lambda place, s: seen.update({1: jax.device_get(s)})
    )
    end = leaves(fit(saving, state).wrapped.params)
    middle = leaves(seen[1].wrapped.params)
    assert bits(end["params/head/kernel"]) == bits(middle["params/head/kernel"])
    assert bits(end[KERNEL]) != bits(middle[KERNEL])


def test_a_phase_with_learning_rate_factor_moves_as_much_less():
    def end(lr):
        plan = phase("dense", "50%", lr=lr) + phase("dense", "50%", lr=1e-30)
        run, state, _ = setting(lambda partition: Method(), plan, "1")
        start = leaves(jax.device_get(state.wrapped.params))[KERNEL]
        return np.abs(leaves(fit(run, state).wrapped.params)[KERNEL] - start).max()

    assert 0 < end(1e-4) < 0.01 * end(1.0)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_weights():
    run, state, records = setting(magnitude, plans.gradual(), dtype=jnp.bfloat16)
    state = fit(run, state)
    assert leaves(state.wrapped.params)[KERNEL].dtype == jnp.float32
    assert records[-1]["accuracy"] > 0.6


def test_no_array_moves_between_host_and_device_during_steps():
    run, _, _ = _cached_setting("gradual")
    context = final_context(run.target, run.plan)
    state = fresh(run)
    train = functools.partial(run.programs.train, frozen=(), dead="kept")
    span = jax.device_put(Span(np.int32(0), np.int32(60), np.float32(1.0)))
    state = train(state, data(), context, span)
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            state = train(state, data(), context, span)


def test_batch_statistics_are_recomputed_after_a_mask_change():
    run, state, _ = setting(magnitude, plans.one_shot())
    context = final_context(run.target, run.plan)
    before = jax.device_get(state.mutable)
    settled = run.programs.settle(state, data(), context, batches=80)
    images, _ = data()
    applied = run.programs.method.apply(settled.wrapped, context).params["params"]["first"]
    hidden = np.asarray(images) @ np.asarray(applied["kernel"]) + np.asarray(applied["bias"])
    found = settled.mutable["batch_stats"]["BatchNorm_0"]
    assert np.abs(np.asarray(found["mean"]) - hidden.mean(0)).max() < 0.3
    assert bits(before) != bits(settled.mutable)


def test_signals_are_mean_gradients_at_the_applied_weights_dead_ones_included():
    run, state, _ = setting(grid, plans.one_shot(), score="fisher", batches=3)
    context = final_context(run.target, run.plan)
    masks = {KERNEL: jnp.zeros((4, 8), bool).at[0].set(True)}
    memory = state.wrapped.memory._replace(masks=masks)
    state = state._replace(wrapped=state.wrapped._replace(memory=memory))
    signals = run.programs.signals(state, data(), context)
    assert signals.grads is None
    squares = leaves(signals.grads_squared)[KERNEL]
    assert (np.asarray(squares) > 0).mean() > 0.9


def poisoned(state):
    params = jax.tree.map(lambda w: w * jnp.nan, state.wrapped.params)
    return state._replace(wrapped=state.wrapped._replace(params=params))


def test_a_run_that_diverges_says_when_at_the_next_record():
    run, state, records = setting(magnitude, plans.gradual())
    with pytest.raises(Diverged, match="training loss is nan at step 10, in a dense phase"):
        fit(run, poisoned(state))
    assert not [r for r in records if r["event"] == "train"]


def test_no_mask_is_chosen_from_numbers_that_are_not_finite():
    run, state, records = setting(magnitude, plans.static())
    with pytest.raises(Diverged, match=f"not finite at the tick before step 0: .*{KERNEL}"):
        fit(run, poisoned(state))
    assert records == []


def test_any_optax_transform_drives_the_step():
    model = linen(Net())
    shapes, _ = jax.eval_shape(model.init, jax.random.key(0), data()[0][:1])
    target = Target.of(blocks(shapes, [Rule("*", (4, 4))], density="0.25", at_least=1))
    phases = phase("sparse", "50%", reset="zeroed") + phase("sparse", "50%", reset="restarted")
    plan = parse(phases, steps=10, steps_per_epoch=10)
    for tx in (
        optax.adamw(1e-2),
        optax.chain(optax.clip_by_global_norm(1.0), optax.lion(1e-3)),
        optax.MultiSteps(optax.rmsprop(1e-2), 2),
        optax.inject_hyperparams(optax.adam)(optax.cosine_decay_schedule(1e-2, 10)),
        optax.chain(optax.adam(1e-2), optax.contrib.reduce_on_plateau()),
        optax.adafactor(1e-2),
    ):
        made = programs(
            model,
            sequential_attention(target.partition),
            target.partition,
            tx,
            draw,
            cross_entropy(),
        )
        run = Run(made, plan, target, lambda step: data(), lambda s, c: {"accuracy": 0.0})
        state = fit(run, made.create(jax.random.key(1), data()[0][:1]))
        assert int(made.method.masks(state.wrapped, None)[KERNEL].sum()) == 8


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("sequential_attention", AxisType.Auto, marks=pytest.mark.slow),
        ("gradual", AxisType.Explicit),
    ],
)
def test_training_on_eight_devices_agrees_with_one(name, kind):
    run, _, records = _cached_setting(name)
    records.clear()
    one = fit(run, fresh(run))
    loss = [r["loss"] for r in records if r["event"] == "train"][-1]
    records.clear()
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    rows = NamedSharding(mesh, PartitionSpec("x"))

    def placed(keys, leaf):
        wide = jax.tree_util.keystr(keys, simple=True, separator="/").endswith(KERNEL)
        return jax.device_put(leaf, rows if wide and leaf.shape == (16, 32) else everywhere)

    with jax.set_mesh(mesh):
        state = jax.tree_util.tree_map_with_path(placed, fresh(run))
        eight = fit(run, state)
    assert len(leaves(eight.wrapped.params)[KERNEL].sharding.device_set) == 8
    assert abs([r["loss"] for r in records if r["event"] == "train"][-1] - loss) < 1e-3
    masks = [run.programs.method.masks(s.wrapped, None)[KERNEL] for s in (one, eight)]
    assert (np.asarray(masks[0]) == np.asarray(masks[1])).mean() >= 0.99
