"""Rules resolve to the blocks that a loop over the weight finds."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.units.blocks import Rule, blocks, densities, partition_of
from sparsity.units.masks import counts, per_group
from sparsity.units.partition import scale, spread
from sparsity.units.scores import norms


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def integers(seed, *sizes):
    return np.random.default_rng(seed).integers(-3, 4, sizes).astype(np.float32)


def best_by_hand(matrix, block, keep):
    """The mask of the matrix's entries that keeps its `keep` blocks of largest norm, by loops."""
    rows, cols = matrix.shape
    corners = [(r, c) for r in range(0, rows, block[0]) for c in range(0, cols, block[1])]
    inside = [(slice(r, r + block[0]), slice(c, c + block[1])) for r, c in corners]
    squares = [float(np.sum(np.square(matrix[where], dtype=np.float64))) for where in inside]
    ranked = sorted(range(len(inside)), key=lambda i: (-squares[i], i))
    mask = np.zeros(matrix.shape, bool)
    for i in ranked[:keep]:
        mask[inside[i]] = True
    return mask


@functools.cache
def compiled(groups):
    """Selection by norms, and the pruned tree: compiled once for all counts."""
    partition = dict(groups)

    def prune(tree, keep):
        masks = per_group(partition, norms(partition, tree), keep)
        return masks, scale(partition, masks, tree)

    return jax.jit(prune)


def pruned(tree, rules, density, share=Fraction(1), at_least=1):
    """What the library leaves of `tree`: its layers, its masks per unit, its pruned tree."""
    layers = blocks(tree, rules, density=density, at_least=at_least)
    partition = partition_of(layers)
    keep = counts(partition, densities(layers), share)
    return layers, *compiled(tuple(partition.items()))(tree, keep)


# What JaxPruner gets wrong, each with the matrix that it should have been read as.
@pytest.mark.parametrize(
    ("sizes", "block", "matrix", "grid"),
    [
        ((3, 3, 64, 128), (4, 4), (576, 128), (144, 32)),  # no sparsity at all, no error
        ((3, 3, 64, 128), (16, 16), (576, 128), (36, 8)),  # IndexError
        ((128, 100), (16, 16), (128, 100), (8, 7)),  # a mask of 128 x 96
        ((100, 100), (32, 32), (100, 100), (4, 4)),  # a mask of 96 x 96
        ((35, 35), (16, 16), (35, 35), (3, 3)),  # a mask of 32 x 32
        ((32, 256, 64), (16, 16), (8192, 64), (512, 4)),  # pools the first two axes
    ],
)
@pytest.mark.parametrize("density", ["0.2", "0.55"])
def test_any_shape_is_cut_into_blocks_of_its_matrix(sizes, block, matrix, grid, density):
    w = integers(sum(sizes), *sizes)
    layers, masks, new = pruned({"w": jnp.asarray(w)}, [Rule("w", block)], density)
    keep = math.floor(Fraction(density) * math.prod(grid))
    by_hand = best_by_hand(w.reshape(matrix), block, keep).reshape(sizes)
    assert layers[0].group.grid == grid
    assert masks["w"].dtype == bool and int(masks["w"].sum()) == keep
    np.testing.assert_array_equal(new["w"], np.where(by_hand, w, 0))
    assert layers[0].reachable == Fraction(keep, math.prod(grid))


@functools.cache
def stacked(density):
    w = integers(0, 12, 256, 256)
    # Layers of very different size: taken together the last ones would win everything.
    w *= np.arange(1, 13, dtype=np.float32)[:, None, None]
    return w, pruned({"w": jnp.asarray(w)}, [Rule("w", (16, 16), batch=(0,))], density)


def test_layers_stacked_for_scan_are_selected_one_by_one():
    w, (layers, masks, new) = stacked("0.3")
    assert layers[0].group.grid == (12, 16, 16) and layers[0].group.batch == 1
    assert masks["w"].sum((1, 2)).tolist() == [math.floor(Fraction("0.3") * 256)] * 12
    for i in range(12):
        np.testing.assert_array_equal(
            new["w"][i], np.where(best_by_hand(w[i], (16, 16), 76), w[i], 0)
        )


def test_projections_to_several_heads_are_d_by_heads_times_k():
    w = integers(5, 32, 4, 24)
    _, _, new = pruned({"query": {"kernel": jnp.asarray(w)}}, [Rule("*", (8, 16))], "0.5")
    keep = 4 * 6 // 2
    by_hand = best_by_hand(w.reshape(32, 96), (8, 16), keep).reshape(w.shape)
    np.testing.assert_array_equal(new["query"]["kernel"], np.where(by_hand, w, 0))


def test_projections_back_are_heads_times_k_by_d():
    w = integers(6, 4, 24, 32)
    _, _, new = pruned({"out": {"kernel": jnp.asarray(w)}}, [Rule("*", (16, 8))], "0.5")
    by_hand = best_by_hand(w.reshape(96, 32), (16, 8), 12).reshape(w.shape)
    np.testing.assert_array_equal(new["out"]["kernel"], np.where(by_hand, w, 0))


def test_declared_axes_win_over_the_default_reading():
    w = integers(7, 10, 4, 6, 8)
    rule = Rule("w", (5, 6), rows=(3, 0), cols=(2,), batch=(1,))
    layers, _, new = pruned({"w": jnp.asarray(w)}, [rule], "0.5")
    assert layers[0].group.grid == (4, 16, 1) and layers[0].group.batch == 1
    for i in range(4):
        matrix = w[:, i].transpose(2, 0, 1).reshape(80, 6)
        alive = best_by_hand(matrix, (5, 6), 8).reshape(8, 10, 6).transpose(1, 2, 0)
        np.testing.assert_array_equal(new["w"][:, i], np.where(alive, w[:, i], 0))


def test_columns_alone_may_be_declared():
    layers = blocks({"w": shape(4, 6, 8)}, [Rule("w", (2, 2), cols=(0,))], density=1, at_least=1)
    assert layers[0].group.gated[0].axes == ((1, 2), (0,))
    layers = blocks({"w": shape(4, 6, 8)}, [Rule("w", (2, 2), rows=(2,))], density=1, at_least=1)
    assert layers[0].group.gated[0].axes == ((2,), (0, 1))


def test_layers_of_a_net_with_a_convolution_have_their_own_blocks_and_densities():
    tree = {
        "conv1": {"kernel": jnp.asarray(integers(1, 3, 3, 3, 16))},
        "conv2": {"kernel": jnp.asarray(integers(2, 3, 3, 16, 32))},
        "dense": {"kernel": jnp.asarray(integers(3, 200, 60))},
        "last": {"kernel": jnp.asarray(integers(4, 60, 10))},
    }
    rules = [
        Rule("conv1/*"),
        Rule("conv*", (8, 16), "0.4"),
        Rule("dense/kernel", (16, 4), 0.15),
        Rule("*", (5, 5)),
    ]
    layers, masks, new = pruned(tree, rules, "0.3")
    found = {layer.path: layer for layer in layers}
    assert set(partition_of(layers)) == set(densities(layers)) == set(masks)
    assert found["conv1/kernel"].group is None and "conv1/*" in found["conv1/kernel"].reason
    asked = {path: layer.asked for path, layer in found.items() if layer.group}
    assert asked == {
        "conv2/kernel": Fraction("0.4"),
        "dense/kernel": Fraction("0.15"),
        "last/kernel": Fraction("0.3"),
    }
    for path, matrix, block, keep in (
        ("conv2", (144, 32), (8, 16), 14),  # floor(0.4 * 36)
        ("dense", (200, 60), (16, 4), 29),  # floor(0.15 * 195)
        ("last", (60, 10), (5, 5), 7),  # floor(0.3 * 24)
    ):
        w = np.asarray(tree[path]["kernel"])
        alive = best_by_hand(w.reshape(matrix), block, keep).reshape(w.shape)
        np.testing.assert_array_equal(new[path]["kernel"], np.where(alive, w, 0))
        assert int(masks[f"{path}/kernel"].sum()) == keep
    np.testing.assert_array_equal(new["conv1"]["kernel"], tree["conv1"]["kernel"])


@pytest.mark.parametrize("share", [Fraction(0), Fraction(1, 3), Fraction(1)])
def test_a_share_of_the_way_is_a_share_of_the_sparsity(share):
    tree = {"w": jnp.asarray(integers(1, 40, 40))}
    _, masks, _ = pruned(tree, [Rule("w", (4, 4))], "0.1", share)
    assert int(masks["w"].sum()) == math.floor((1 - share * Fraction("0.9")) * 100)


def test_masks_are_zero_or_one_in_the_weights_shape():
    tree = {"w": jnp.asarray(integers(1, 35, 35))}
    layers, masks, _ = pruned(tree, [Rule("w", (16, 16))], "0.5")
    wide = spread(partition_of(layers), masks, tree)["w"]
    assert wide.shape == (35, 35) and wide.dtype == bool
