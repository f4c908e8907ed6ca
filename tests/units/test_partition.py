"""What pool and spread promise: they are adjoint, and they are what a loop over the entries gives."""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity.units.partition import Group, View, leaves, pool, replaced, scale, spread, tiles


def one(shape, axes, block, *, read=None, batch=0):
    """A partition of one leaf "w", and the leaf's shape."""
    view = View("w", read or shape, axes, block)
    return {"g": Group(tiles(view), (view,), batch=batch)}, {"w": shape}


MATRIX = ((0,), (1,))
HWIO = ((0, 1, 2), (3,))


def channels():
    """What a channel's gate scales: a convolution's outputs, a norm's scale and its bias."""
    views = (
        View("conv/kernel", (3, 3, 5, 12), ((3,),), (1,)),
        View("norm/scale", (12,), ((0,),), (1,)),
        View("norm/bias", (12,), ((0,),), (1,)),
    )
    shapes = {"conv": {"kernel": (3, 3, 5, 12)}, "norm": {"scale": (12,), "bias": (12,)}}
    return {"channels": Group((12,), views)}, shapes


def concatenated():
    """Channels of two branches in one row, the second of pairs of entries, and what reads them."""
    views = (
        View("a", (6, 4), ((1,),), (1,)),
        View("b", (5,), ((0,),), (2,), (4,)),
        View("read", (7, 3), ((0,),), (1,)),
    )
    return {"row": Group((7,), views)}, {"a": (6, 4), "b": (5,), "read": (7, 3)}


def stacked_rows():
    """Two matrices above each other in one grid, and a third alone in another group."""
    views = (
        View("top", (10, 12), MATRIX, (4, 5)),
        View("low", (9, 12), MATRIX, (4, 5), (3, 0)),
    )
    other = View("other", (6, 6), MATRIX, (3, 2))
    groups = {"both": Group((6, 3), views), "other": Group((2, 3), (other,))}
    return groups, {"top": (10, 12), "low": (9, 12), "other": (6, 6)}


CASES = {
    "even": one((32, 48), MATRIX, (8, 16)),
    "ragged rows": one((35, 32), MATRIX, (16, 16)),
    "ragged columns": one((32, 35), MATRIX, (16, 16)),
    "ragged on both sides": one((35, 37), MATRIX, (16, 8)),
    "a single entry": one((1, 1), MATRIX, (1, 1)),
    "one ragged block": one((3, 2), MATRIX, (5, 7)),
    "odd": one((7, 5), MATRIX, (2, 3)),
    "three even rows of blocks": one((12, 20), MATRIX, (4, 4)),
    "single entries": one((6, 9), MATRIX, (1, 1)),
    "transposed": one((24, 10), ((1,), (0,)), (4, 8)),
    "convolution, block inside its inputs": one((3, 3, 8, 12), HWIO, (4, 4)),
    "convolution, block of whole pixels": one((3, 3, 4, 12), HWIO, (12, 4)),
    "convolution, ragged over pixels": one((3, 3, 5, 7), HWIO, (16, 4)),
    "convolution of three inputs": one((7, 7, 3, 8), HWIO, (8, 8)),
    "stacked for scan": one((4, 12, 20), ((0,), (1,), (2,)), (1, 8, 8), batch=1),
    "per head, head axis in the middle": one((16, 4, 6), ((1,), (0,), (2,)), (1, 8, 4), batch=1),
    "heads merged into columns": one((16, 4, 6), ((0,), (1, 2)), (8, 12)),
    "heads merged into rows, ragged": one((4, 6, 16), ((0, 1), (2,)), (9, 8)),
    "runs out of order": one((4, 6, 10), ((2, 0), (1,)), (8, 4)),
    "reshaped to three matrices": one(
        (16, 72), ((1,), (0,), (2, 3)), (1, 8, 5), read=(16, 3, 4, 6), batch=1
    ),
    "reshaped from flat": one((60,), MATRIX, (4, 4), read=(6, 10)),
    "axes pooled whole": one((3, 5, 4, 6), ((2,),), (2,)),
    "axes pooled whole, merged ragged": one((3, 5, 4, 6), ((3, 1),), (4,)),
    "the whole leaf is one unit": one((5, 7), ((),), (1,)),
    "a channel's kernel, scale and bias": channels(),
    "concatenated": concatenated(),
    "stacked rows": stacked_rows(),
}
FEW = ["ragged on both sides", "convolution, ragged over pixels", "concatenated"]


def filled(shapes, seed, low=-8, high=9):
    """Small integers, whose sums are exact in float32."""
    draw = np.random.default_rng(seed)
    fill = lambda shape: jnp.asarray(draw.integers(low, high, shape), jnp.float32)
    return jax.tree.map(fill, shapes, is_leaf=lambda x: isinstance(x, tuple))


def units_of(partition, seed):
    return filled({name: group.grid for name, group in partition.items()}, seed)


@functools.cache
def compiled(name):
    """pool and spread of a case: one compilation for all tests of it."""
    partition, shapes = CASES[name]
    like = filled(shapes, 0)
    return jax.jit(lambda t: pool(partition, t)), jax.jit(lambda u: spread(partition, u, like))


def unit_of_each_entry(view, group):
    """The unit's index in the raveled grid, for every entry of the leaf read as `view.shape`."""
    where = np.indices(view.shape).reshape(len(view.shape), -1)
    index = []
    for axis, (run, block) in enumerate(zip(view.axes, view.block, strict=True)):
        along = np.zeros(where.shape[1], int)
        for a in run:
            along = along * view.shape[a] + where[a]
        index.append(along // block + (view.start[axis] if view.start else 0))
    return np.ravel_multi_index(index, group.grid)


def pooled_by_entries(partition, tree, reduce):
    found, result = leaves(tree), {}
    for name, group in partition.items():
        total = np.zeros(math.prod(group.grid))
        for view in group.gated:
            entries = np.asarray(found[view.path], np.float64).reshape(-1)
            reduce.at(total, unit_of_each_entry(view, group), entries)
        result[name] = total.reshape(group.grid)
    return result


def dot(a, b):
    pairs = [(np.asarray(a[k], np.float64), np.asarray(b[k], np.float64)) for k in a]
    return sum(float(np.sum(x * y)) for x, y in pairs)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_pool_and_spread_are_adjoint(name, seed):
    partition, shapes = CASES[name]
    pooled, wide_of = compiled(name)
    u, t = units_of(partition, seed), filled(shapes, seed + 1)
    wide = wide_of(u)
    gated = {path: leaf for path, leaf in leaves(t).items() if path in wide}
    assert all(wide[path].shape == gated[path].shape for path in wide)
    assert dot(wide, gated) == dot(u, pooled(t))
    squares = jax.tree.map(jnp.square, t)
    squared = {path: leaf for path, leaf in leaves(squares).items() if path in wide}
    assert dot(wide, squared) == dot(u, pooled(squares))


@pytest.mark.parametrize("name", CASES)
def test_pool_is_a_sum_over_the_entries_of_each_unit(name):
    partition, shapes = CASES[name]
    tree = filled(shapes, 3)
    found, expected = compiled(name)[0](tree), pooled_by_entries(partition, tree, np.add)
    for group in partition:
        assert found[group].shape == partition[group].grid
        np.testing.assert_array_equal(found[group], expected[group])


@pytest.mark.parametrize("name", CASES)
def test_pool_takes_the_largest_of_each_unit(name):
    partition, shapes = CASES[name]
    tree = filled(shapes, 4, low=0)
    found, expected = pool(partition, tree, jnp.max), pooled_by_entries(partition, tree, np.maximum)
    for group in partition:
        np.testing.assert_array_equal(found[group], expected[group])


@pytest.mark.parametrize("name", CASES)
def test_spread_gives_every_entry_its_units_number(name):
    partition, _ = CASES[name]
    u = units_of(partition, 5)
    wide = compiled(name)[1](u)
    for group_name, group in partition.items():
        for view in group.gated:
            numbers = np.asarray(u[group_name]).reshape(-1)[unit_of_each_entry(view, group)]
            np.testing.assert_array_equal(np.asarray(wide[view.path]).reshape(-1), numbers)


@pytest.mark.parametrize("name", FEW)
def test_each_is_the_gradient_of_the_other(name):
    partition, shapes = CASES[name]
    u, tree = units_of(partition, 7), filled(shapes, 8)
    _, back = jax.vjp(lambda t: pool(partition, t), tree)
    (gradient,) = back(u)
    jax.tree.map(np.testing.assert_array_equal, leaves(gradient), spread(partition, u, tree))
    _, forth = jax.vjp(lambda u: spread(partition, u, tree), u)
    (gradient,) = forth(leaves(tree))
    jax.tree.map(np.testing.assert_array_equal, gradient, pool(partition, tree))


@pytest.mark.parametrize("name", FEW)
def test_pool_is_linear_forwards_too(name):
    partition, shapes = CASES[name]
    tree, step = filled(shapes, 9), filled(shapes, 10)
    value, slope = jax.jvp(lambda t: pool(partition, t), (tree,), (step,))
    jax.tree.map(np.testing.assert_array_equal, value, pool(partition, tree))
    jax.tree.map(np.testing.assert_array_equal, slope, pool(partition, step))


@pytest.mark.parametrize("name", FEW)
def test_seeds_may_be_mapped_over(name):
    partition, shapes = CASES[name]
    trees = [filled(shapes, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaf: jnp.stack(leaf), *trees)

    def halved(tree):
        u = pool(partition, tree)
        return u, scale(partition, {k: v > 0 for k, v in u.items()}, tree)

    mapped = jax.jit(jax.vmap(halved))(stacked)
    alone = jax.tree.map(lambda *leaf: jnp.stack(leaf), *map(halved, trees))
    jax.tree.map(np.testing.assert_array_equal, mapped, alone)


def test_a_group_that_is_not_given_is_not_scaled():
    partition, shapes = stacked_rows()
    tree = filled(shapes, 1)
    new = scale(partition, {"other": 2 * jnp.ones((2, 3))}, tree)
    assert new["top"] is tree["top"] and new["low"] is tree["low"]
    np.testing.assert_array_equal(new["other"], 2 * tree["other"])


def test_a_leaf_of_no_group_is_the_same_object():
    partition, shapes = one((6, 6), MATRIX, (2, 2))
    tree = filled(shapes, 1) | {"bias": jnp.ones(6), "step": 3}
    new = scale(partition, units_of(partition, 2), tree)
    assert new["bias"] is tree["bias"] and new["step"] == 3


@pytest.mark.parametrize("dead", [-1.0, np.nan, np.inf, -np.inf, -0.0])
def test_a_dead_entry_is_plus_zero_whatever_it_held(dead):
    partition, _ = one((5, 4), MATRIX, (2, 2))
    alive = jnp.zeros((3, 2), bool).at[2, 1].set(True)
    w = np.asarray(scale(partition, {"g": alive}, {"w": jnp.full((5, 4), dead)})["w"])
    gone = np.ones((5, 4), bool)
    gone[4:, 2:] = False
    np.testing.assert_array_equal(w[gone], 0.0)
    assert not np.signbit(w[gone]).any()
    np.testing.assert_array_equal(w[~gone], np.float32(dead))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("kind", [jnp.bool_, jnp.float32])
def test_scale_keeps_the_leafs_type(dtype, kind):
    partition, _ = one((5, 4), MATRIX, (2, 2))
    new = scale(partition, {"g": jnp.ones((3, 2), kind)}, {"w": jnp.ones((5, 4), dtype)})
    assert new["w"].dtype == dtype


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Layer:
    kernel: jax.Array
    bias: jax.Array


class Pair(NamedTuple):
    first: Layer
    second: tuple


def test_the_tree_may_hold_lists_tuples_and_dataclasses():
    layer = lambda seed: Layer(**filled({"kernel": (6, 5), "bias": (5,)}, seed))
    tree = {
        "layers": [layer(0), layer(1)],
        "end": Pair(layer(2), (layer(3),)),
        "n": {7: jnp.ones(2)},
    }
    paths = ["layers/0/kernel", "layers/1/kernel", "end/first/kernel", "end/second/0/kernel"]
    assert set(paths) < set(leaves(tree)) and "n/7" in leaves(tree)
    views = {path: View(path, (6, 5), MATRIX, (4, 2)) for path in paths}
    partition = {path: Group((2, 3), (view,)) for path, view in views.items()}
    u = units_of(partition, 4)
    kernels = {path: leaves(tree)[path] for path in paths}
    assert dot(spread(partition, u, tree), kernels) == dot(u, pool(partition, tree))
    new = scale(partition, u, tree)
    assert jax.tree.structure(new) == jax.tree.structure(tree)
    assert new["layers"][1].bias is tree["layers"][1].bias
    wide = spread(partition, u, tree)["end/second/0/kernel"]
    np.testing.assert_array_equal(new["end"].second[0].kernel, tree["end"].second[0].kernel * wide)


def test_two_leaves_of_one_path_are_refused():
    with pytest.raises(ValueError, match="two leaves have the path 'a/b'"):
        leaves({"a": {"b": 1.0}, "a/b": 2.0})


def test_a_leaf_that_is_gated_twice_is_refused():
    twice = {name: Group((2, 2), (View("w", (4, 4), MATRIX, (2, 2)),)) for name in ("g", "h")}
    tree, u = {"w": jnp.ones((4, 4))}, {name: jnp.ones((2, 2)) for name in twice}
    with pytest.raises(ValueError, match="w is gated twice, the second time by 'h'"):
        spread(twice, u, tree)
    np.testing.assert_array_equal(spread(twice, {"h": u["h"]}, tree)["w"], 1.0)


@pytest.mark.parametrize("rows", [1024, 1000, 1536])
def test_sixteen_bits_are_summed_in_thirty_two(rows):
    partition, _ = one((rows, 2), MATRIX, (512, 1))
    found = pool(partition, {"w": jnp.ones((rows, 2), jnp.bfloat16)})["g"]
    sizes = [min(512, rows - start) for start in range(0, rows, 512)]
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found[:, 1], jnp.asarray(sizes, jnp.bfloat16))


@pytest.mark.parametrize("name", FEW)
def test_true_entries_are_counted(name):
    partition, shapes = CASES[name]
    tree = jax.tree.map(lambda w: w > 0, filled(shapes, 11))
    found = pool(partition, tree)
    for group, expected in pooled_by_entries(partition, tree, np.add).items():
        assert jnp.issubdtype(found[group].dtype, jnp.integer)
        np.testing.assert_array_equal(found[group], expected)


def test_replaced_exchanges_by_path_and_nothing_else():
    tree = {"a": [jnp.zeros(2), jnp.ones(2)], "b": jnp.ones(3)}
    new = replaced(tree, {"a/1": jnp.full(2, 5.0)})
    assert new["a"][0] is tree["a"][0] and new["b"] is tree["b"]
    np.testing.assert_array_equal(new["a"][1], 5.0)


def test_a_ragged_unit_counts_as_one():
    assert tiles(View("w", (35, 35), MATRIX, (16, 16))) == (3, 3)
    assert tiles(View("w", (3, 3, 64, 128), HWIO, (16, 16))) == (36, 8)
    assert tiles(View("w", (5, 7), ((),), (1,))) == (1,)


def test_a_group_counts_its_units_per_index():
    group = Group((12, 16, 8), (), batch=1)
    assert (group.size, group.indices) == (128, 12)
    assert (Group((4, 5), ()).size, Group((4, 5), ()).indices) == (20, 1)
