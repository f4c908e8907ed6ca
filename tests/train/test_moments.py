"""Laws of the optimiser's memory, over a table of optax transforms."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity.train import moments
from tests.train.transforms import COSINE, TABLE, differing, leaves, run, stepper, tree_of, used

every_transform = pytest.mark.parametrize("name", TABLE)


@every_transform
def test_a_restart_renews_everything_but_the_schedules(name):
    tx, kept = TABLE[name]
    tree, old = used(name)
    new, fresh, old = map(leaves, (moments.restart(tx, old, tree), tx.init(tree), old))
    assert differing(new, fresh) == kept
    assert not set(kept) & set(differing(new, old))


@every_transform
def test_schedules_do_not_see_the_restarts(name):
    # 3 falls into an accumulation of 2.
    interrupted, plain = (leaves(run(name, 7, restarts)[1]) for restarts in ((2, 3, 6), ()))
    assert not set(TABLE[name][1]) & set(differing(interrupted, plain))


@every_transform
def test_a_restart_adds_no_compilation_and_follows_new_values(name):
    tx, traces = TABLE[name][0], {"restart": 0, "zero": 0}

    @jax.jit
    def restart(state, tree):
        traces["restart"] += 1
        return moments.restart(tx, state, tree)

    @jax.jit
    def zero(state, tree, keep):
        traces["zero"] += 1
        return moments.zero_units(tx, state, tree, keep)

    step, steps = stepper(name)
    tree, state = used(name)
    before = len(steps)
    for alive in (0.0, 1.0):
        keep = jax.tree.map(lambda x, alive=alive: jnp.full(x.shape, alive), tree)
        tree, state, _ = step(tree, zero(restart(state, tree), tree, keep), 1.0)
    assert (traces, len(steps)) == ({"restart": 1, "zero": 1}, before)


@every_transform
def test_zeroing_units_leaves_every_other_bit(name):
    tree, old = used(name)
    keep = jax.tree.map(jnp.ones_like, tree)
    dense = keep["params"]["params"]["dense"]
    dense["kernel"], dense["bias"] = dense["kernel"].at[:4, 2:4].set(0), dense["bias"].at[5].set(0)
    new, old = leaves(moments.zero_units(TABLE[name][0], old, tree, keep)), leaves(old)
    for path, leaf in old.items():
        factor = np.ones(leaf.shape)
        if "['dense']['kernel']" in path and leaf.shape == (8, 6):
            factor = np.asarray(dense["kernel"])
        if "['dense']['bias']" in path and leaf.shape == (6,):
            factor = np.asarray(dense["bias"])
        assert new[path].tobytes() == np.where(factor != 0, leaf, 0).astype(leaf.dtype).tobytes()
        assert leaf.shape != (8, 6) or not new[path][:4, 2:4].any()


@every_transform
def test_no_gates_are_no_trouble(name):
    tx, kept = TABLE[name]
    tree = tree_of(False)
    state = jax.tree.map(lambda x: jnp.full_like(x, 3), tx.init(tree))  # as if it had been used
    keep = jax.tree.map(lambda x: 1.0, tree)
    assert not differing(leaves(moments.zero_units(tx, state, tree, keep)), leaves(state))
    new, fresh = leaves(moments.restart(tx, state, tree)), leaves(tx.init(tree))
    assert set(kept) <= set(differing(new, fresh))
    assert not [path for path in differing(new, fresh) if "['params']" in path]


@pytest.mark.parametrize("name", ["adam", "rmsprop", "lion", "adagrad", "multi_steps", "plateau"])
def test_leaves_found_by_path_are_those_that_optax_finds(name):
    tx = TABLE[name][0]
    tree, state = used(name)
    theirs = optax.tree_utils.tree_map_params(tx, lambda leaf: -leaf - 1, state)
    ours = moments.map_owned(lambda keys, leaf: -leaf - 1, tree, state)
    assert not differing(leaves(ours), leaves(theirs))


def test_the_cosine_goes_on_through_restarts():
    tx: Any = optax.sgd(COSINE)
    tree, sizes = tree_of(True), {}
    ones = jax.tree.map(jnp.ones_like, tree)
    for restarts in ((), (10, 20, 30)):
        state, sizes[restarts] = tx.init(tree), []
        for i in range(40):
            if i in restarts:
                state = moments.restart(tx, state, tree)
            updates, state = tx.update(ones, state)
            sizes[restarts].append(float(updates["params"]["params"]["norm"]["scale"][0]))
    assert sizes[()] == sizes[(10, 20, 30)]
    assert sizes[()] == pytest.approx([-float(COSINE(i)) for i in range(40)])


def test_the_first_adam_step_after_a_restart_is_a_first_step():
    tx: Any = optax.adam(0.1)
    update = jax.jit(tx.update)
    tree, grads = tree_of(False), jax.tree.map(lambda x: 1e-2 * x, tree_of(False))
    first, state = update(grads, tx.init(tree))
    for _ in range(3):
        _, state = update(grads, state)
    state = optax.tree_utils.tree_set(state, count=jnp.int32(20_000))

    again, _ = update(grads, moments.restart(tx, state, tree))
    assert not differing(leaves(first), leaves(again))

    # With the moments zeroed and the count kept it is 3.2 times as long.
    nothing = jax.tree.map(lambda x: 0.0, tree)
    long, _ = update(grads, moments.zero_units(tx, state, tree, nothing))
    assert float(optax.tree.norm(long) / optax.tree.norm(first)) == pytest.approx(3.16, abs=0.01)


def test_units_of_adagrad_restart_at_its_initial_accumulator():
    tx = TABLE["adagrad"][0]
    tree, old = used("adagrad")
    keep = {"params": 1.0, "gates": 0.0}  # a prefix of the tree
    new = moments.restart_units(tx, old, tree, keep)
    path = "[0].sum_of_squares['gates']['params/dense/kernel']"
    assert differing(leaves(new), leaves(old)) == [path]
    np.testing.assert_array_equal(leaves(new)[path], np.full((2, 3), 0.1, np.float32))


@given(st.lists(st.sampled_from([0, 1]), min_size=8, max_size=8))
@settings(max_examples=20, deadline=None)
def test_any_rows_can_be_zeroed(rows):
    tx = TABLE["adam"][0]
    tree, old = used("adam")
    keep = jax.tree.map(lambda x: np.ones((1,) * x.ndim), tree)
    keep["params"]["params"]["dense"]["kernel"] = np.array(rows)[:, None]
    new, old = leaves(moments.zero_units(tx, old, tree, keep)), leaves(old)
    for moment in ("mu", "nu"):
        path = f"[0].{moment}['params']['params']['dense']['kernel']"
        np.testing.assert_array_equal(new.pop(path), old.pop(path) * np.array(rows)[:, None])
    assert not differing(new, old)


def test_dead_moments_that_are_not_finite_become_zero():
    tx: Any = optax.sgd(0.1, momentum=0.9)
    state = (optax.TraceState({"kernel": jnp.array([jnp.nan, jnp.inf, 1.0])}), optax.EmptyState())
    keep = {"kernel": jnp.array([0, 0, 1])}
    new = moments.zero_units(tx, state, {"kernel": jnp.zeros(3)}, keep)
    np.testing.assert_array_equal(new[0].trace["kernel"], [0, 0, 1])


def test_a_state_of_ones_own_can_be_listed():
    class Mine(NamedTuple):
        count: jax.Array
        average: dict

    tx: Any = optax.GradientTransformation(
        lambda params: Mine(jnp.int32(0), jax.tree.map(jnp.zeros_like, params)), optax.sgd(1).update
    )
    tree = {"kernel": jnp.ones(2)}
    state = Mine(jnp.int32(7), {"kernel": jnp.ones(2)})
    assert moments.restart(tx, state, tree).count == 0
    listed = moments.restart(tx, state, tree, kept=moments.KEPT | {"Mine": ("count",)})
    assert listed.count == 7 and not listed.average["kernel"].any()


def test_every_listed_class_exists_in_optax_with_its_fields():
    found = {c.__name__: c for c in tuple.__subclasses__() if c.__module__.startswith("optax")}
    for name, fields in moments.KEPT.items():
        assert set(fields) <= set(found[name]._fields)


def test_noise_goes_on_through_a_restart():
    tx: Any = optax.add_noise(1.0, 0.5, key=0)
    tree = {"kernel": jnp.zeros(3)}
    first, state = tx.update(tree, tx.init(tree))
    second, _ = tx.update(tree, state)
    after, _ = tx.update(tree, moments.restart(tx, state, tree))
    np.testing.assert_array_equal(after["kernel"], second["kernel"])
    assert (after["kernel"] != first["kernel"]).all()


def test_what_does_not_fit_is_an_error():
    tx, tree = optax.adam(0.1), tree_of(False)
    with pytest.raises(ValueError, match="not one of this transform"):
        moments.restart(tx, optax.lion(0.1).init(tree), tree)
    keep = jax.tree.map(jnp.ones_like, tree)
    keep["params"]["params"]["dense"]["bias"] = jnp.ones((4, 6))
    with pytest.raises(ValueError, match=r"params/params/dense/bias is \(4, 6\).*\(6,\)"):
        moments.zero_units(tx, tx.init(tree), tree, keep)
