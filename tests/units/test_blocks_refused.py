"""Bad rules are refused in words, and densities are the decimals that were written."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.units.blocks import Rule, blocks, exact


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def net():
    return {"params": {"fc1": {"kernel": shape(64, 48), "bias": shape(48)}}}


def refused(rules, density="0.5", tree=None):
    with pytest.raises(ValueError) as caught:
        blocks(net() if tree is None else tree, rules, density=density, at_least=1)
    return str(caught.value)


def test_a_pattern_that_matches_nothing_lists_what_exists():
    words = refused([Rule("*", (8, 8)), Rule("params/fc2/*", (8, 8))])
    assert "params/fc2/*" in words
    assert "params/fc1/kernel (64, 48)" in words and "params/fc1/bias (48,)" in words


@pytest.mark.parametrize("block", [(65, 8), (8, 49), (128, 128)])
def test_a_block_larger_than_the_weight_is_refused(block):
    words = refused([Rule("params/fc1/kernel", block)])
    assert "params/fc1/kernel" in words and str(block) in words and "(64, 48)" in words


def test_a_block_as_large_as_the_weight_is_one_block():
    rule = Rule("params/fc1/kernel", (64, 48))
    found = blocks(net(), [rule], density=1, at_least=1)
    assert [layer.group.grid for layer in found if layer.group] == [(1, 1)]


@pytest.mark.parametrize(
    "block", [16, (16,), (4, 4, 4), (0, 4), (4, -4), (4, 2.0), "16", "ab", (True, 4), (None, 4)]
)
def test_what_is_no_block_is_refused(block):
    words = refused([Rule("*", block)])
    assert repr(block) in words and "positive integers" in words


WRONG = [
    0,
    1.5,
    -0.1,
    True,
    False,
    "abc",
    "",
    None,
    float("nan"),
    float("inf"),
    "1/0",
    "0x1",
    [0.5],
]


@pytest.mark.parametrize("density", WRONG)
def test_a_density_out_of_range_is_refused(density):
    words = refused([Rule("*", (8, 8))], density)
    assert repr(density) in words and "(0, 1]" in words


@pytest.mark.parametrize("density", [d for d in WRONG if d is not None])
def test_a_rules_density_out_of_range_is_refused_though_no_layer_takes_it(density):
    words = refused([Rule("params/fc1/kernel", None), Rule("*", (8, 8), density)])
    assert repr(density) in words


@pytest.mark.parametrize(
    ("given", "value"),
    [("0.1", "1/10"), (0.1, "1/10"), (1, "1"), ("5e-2", "1/20"), ("1/3", "1/3"), (1.0, "1")],
)
def test_a_density_is_the_decimal_that_was_written(given, value):
    assert exact(given) == Fraction(value)
    assert exact(np.float32(0.1)) == exact(np.float64(0.1)) == Fraction(1, 10)


@pytest.mark.parametrize(
    "axes",
    [
        {"rows": (0,), "cols": (0,)},
        {"rows": (0, 1)},
        {"cols": (0, 1)},
        {"rows": (0,), "cols": (2,)},
        {"rows": (-2,), "cols": (-1,)},
        {"rows": (), "cols": (0, 1)},
    ],
)
def test_axes_that_do_not_cover_the_leaf_are_refused(axes):
    words = refused([Rule("params/fc1/kernel", (8, 8), **axes)])
    assert "params/fc1/kernel" in words and "(64, 48)" in words and "each axis once" in words


def test_a_batch_axis_that_is_not_there_is_refused():
    tree = {"w": shape(4, 64, 48)}
    assert "batch (3,)" in refused([Rule("w", (8, 8), batch=(3,))], tree=tree)
    assert "batch (0,)" in refused([Rule("w", (8, 8), rows=(0,), batch=(0,))], tree=tree)


def test_a_density_that_keeps_no_block_names_the_layer():
    words = refused([Rule("params/fc1/kernel", (8, 8))], "0.02")
    assert "params/fc1/kernel" in words and "48" in words and "1/48" in words
