"""Laws of freezing."""

import jax
import jax.numpy as jnp
import optax
import pytest

from sparsity.train.freezing import frozen, hold
from tests.train.transforms import TABLE, differing, leaves, tree_of, used

KERNEL = "params/params/dense/*"


def _are(tree, zero):
    """Paths of the leaves that are all zero, or that are not."""
    return sorted(path for path, leaf in leaves(tree).items() if leaf.any() != zero)


def test_frozen_leaves_get_no_update_and_the_others_theirs():
    updates = tree_of(True)
    updates["params"]["params"]["dense"]["kernel"] *= jnp.nan
    still = frozen(updates, (KERNEL, "gates/**"))
    dense = ["['params']['params']['dense']['bias']", "['params']['params']['dense']['kernel']"]
    assert _are(still, zero=True) == ["['gates']['params/dense/kernel']", *dense]
    assert differing(leaves(still), leaves(updates)) == _are(still, zero=True)


def test_gates_that_are_one_array_are_frozen_by_the_same_pattern():
    still = frozen({"params": {"kernel": jnp.ones(2)}, "gates": jnp.ones(2)}, ("gates/**",))
    assert _are(still, zero=True) == ["['gates']"]


def test_no_pattern_freezes_nothing():
    assert not differing(leaves(frozen(tree_of(True), ())), leaves(tree_of(True)))


@pytest.mark.parametrize("name", TABLE)
def test_the_state_of_frozen_leaves_is_held_and_the_rest_goes_on(name):
    tx = TABLE[name][0]
    tree, new = used(name)
    old = tx.init(tree)
    held, new, old = map(leaves, (hold(tx, new, old, tree, (KERNEL,)), new, old))
    for path, leaf in held.items():
        expected = old if "['dense']" in path else new
        assert leaf.tobytes() == expected[path].tobytes()


def test_factored_moments_of_a_frozen_leaf_are_held():
    tx = TABLE["adafactor"][0]
    tree, new = used("adafactor")
    held = hold(tx, new, tx.init(tree), tree, ("*embedding",))
    factored = held[0]
    assert not factored.v_row["params"]["params"]["embed"]["embedding"].any()
    assert factored.v["params"]["params"]["dense"]["kernel"].all()


def test_a_frozen_phase_leaves_leaves_and_state_as_they_were():
    tx, patterns = optax.adam(0.1), ("*kernel",)

    @jax.jit
    def step(tree, state):
        updates, new = tx.update(tree, state, tree)
        tree_after = optax.apply_updates(tree, frozen(updates, patterns))
        return tree_after, hold(tx, new, state, tree, patterns)

    start = tree, state = tree_of(False), tx.init(tree_of(False))
    for _ in range(3):
        tree, state = step(tree, state)
    changed = differing(leaves((tree, state)), leaves(start))
    assert not [path for path in changed if path.endswith("['kernel']")]
    assert len(changed) == 3 * 3 + 1  # bias, scale, embedding with their moments; the count


@pytest.mark.parametrize("patterns", [("params/params/dense/kernle",), (KERNEL, "gates/**")])
def test_a_pattern_that_matches_nothing_is_an_error(patterns):
    tree, tx = tree_of(False), optax.adam(0.1)
    with pytest.raises(ValueError, match="params/params/dense/kernel.*params/params/norm/scale"):
        frozen(tree, patterns)
    with pytest.raises(ValueError, match="leaf to freeze"):
        hold(tx, tx.init(tree), tx.init(tree), tree, patterns)
