"""Rules resolve to the blocks that a loop over the weight finds, and bad rules are refused in words."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.models import build
from sparsity.units.blocks import Rule, blocks, densities, exact, partition_of, table
from sparsity.units.costs import actual_sparsity
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


# The default: what it prunes, and what it says of the rest.


def resolved(tree, pattern="*", block=(8, 8), at_least=1):
    return {
        layer.path: layer
        for layer in blocks(tree, [Rule(pattern, block)], density="0.5", at_least=at_least)
    }


def variables(name, image, **options):
    net = build(name, classes=10, **options)
    made = jax.eval_shape(net.init, jax.random.key(0), shape(1, *image))
    return {"params": made["params"]}


def pruned_paths(tree, pattern="*"):
    return {path for path, layer in resolved(tree, pattern).items() if layer.group}


@pytest.mark.parametrize("pattern", ["*", "params/*", "*kernel", "params/*kernel", "p*"])
def test_the_default_leaves_norms_biases_embeddings_and_the_head_dense(pattern):
    tree = variables("vit", (16, 16, 3), width=32, heads=(2, 2), head_width=16, mlp=(64, 64))
    names = ("query/kernel", "key/kernel", "value/kernel", "out/kernel", "mlp_in/kernel")
    names = (*names, "mlp_out/kernel")
    expected = {f"params/layer{i}/{name}" for i in (1, 2) for name in names}
    assert pruned_paths(tree, pattern) == expected


def test_the_default_says_why_a_leaf_is_dense():
    tree = variables("vit", (16, 16, 3), width=32, heads=(2, 2), head_width=16, mlp=(64, 64))
    found = resolved(tree)
    reasons = {
        "params/embed/kernel": "embedding",
        "params/positions": "embedding",
        "params/head/kernel": "head",
        "params/norm/scale": "vector",
        "params/layer1/mlp_in/bias": "vector",
        "params/layer1/query/bias": "bias",
    }
    text = table(tuple(found.values()))
    for path, reason in reasons.items():
        assert reason in found[path].reason
        assert any(path in line and reason in line for line in text.splitlines())
    narrow = resolved(tree, "params/layer*/mlp*")
    assert narrow["params/layer1/out/kernel"].reason == "no rule names it"


def test_stacked_norms_and_biases_are_no_matrices():
    options = {"width": 32, "heads": (2,) * 12, "head_width": 16, "mlp": (64,) * 12}
    tree = variables("vit", (16, 16, 3), scan_layers=True, **options)
    assert tree["params"]["layers"]["mlp_in"]["bias"].shape == (12, 64)
    assert all(path.endswith("kernel") for path in pruned_paths(tree))


@pytest.mark.parametrize("pattern", ["*", "params/*", "params/*embedding", "*embed*", "p*g"])
def test_embedding_tables_are_never_pruned_by_a_sweep(pattern):
    table_of = {"embedding": shape(1000, 64)}
    tree = {"params": {"tokens": table_of, "Embed_0": table_of, "mlp": {"kernel": shape(64, 64)}}}
    layers = resolved(tree, pattern)
    for name in ("tokens", "Embed_0"):
        dense = layers[f"params/{name}/embedding"]
        # "params/*embedding" spells out what it wants; everything else is a sweep.
        assert (dense.group is None) == (pattern != "params/*embedding")


@pytest.mark.parametrize("path", ["params/head/kernel", "params/embed/kernel"])
def test_a_rule_that_names_them_prunes_the_head_or_an_embedding(path):
    tree = {"params": {"head": {"kernel": shape(64, 32)}, "embed": {"kernel": shape(64, 32)}}}
    assert pruned_paths(tree, path) == {path}
    assert not pruned_paths(tree)


def test_the_first_rule_that_matches_wins():
    tree = {"a": {"kernel": shape(64, 64)}, "b": {"kernel": shape(64, 64)}}
    rules = [Rule("a/*", None), Rule("*", (8, 8)), Rule("b/*", (16, 16))]
    found = {layer.path: layer for layer in blocks(tree, rules, density="0.5", at_least=1)}
    assert found["a/kernel"].group is None
    assert found["b/kernel"].group.grid == (8, 8)


@pytest.mark.parametrize(
    ("least", "of_rule", "dense"), [(64, None, False), (65, None, True), (65, 64, False)]
)
def test_layers_of_too_few_blocks_stay_dense_and_say_so(least, of_rule, dense):
    rule = Rule("w", (8, 8), at_least=of_rule)
    (layer,) = blocks({"w": shape(64, 64)}, [rule], density="0.5", at_least=least)
    assert (layer.group is None) == dense
    assert layer.reason == ("64 blocks, fewer than 65" if dense else "")


def test_too_few_blocks_are_counted_per_stacked_layer():
    rule = Rule("w", (8, 8), batch=(0,))
    (layer,) = blocks({"w": shape(12, 64, 64)}, [rule], density="0.5", at_least=65)
    assert layer.reason == "64 blocks, fewer than 65"


def test_a_sweep_leaves_what_is_smaller_than_a_block_dense():
    tree = {"small": {"kernel": shape(4, 64)}, "large": {"kernel": shape(64, 64)}}
    found = resolved(tree)
    assert found["small/kernel"].group is None and "(4, 64)" in found["small/kernel"].reason
    assert found["large/kernel"].group.grid == (8, 8)


def test_the_table_lists_every_leaf_with_what_is_asked_and_reachable():
    tree = {"conv": {"kernel": shape(3, 3, 16, 32), "bias": shape(32)}}
    lines = table(tuple(resolved(tree, block=(16, 16)).values())).splitlines()
    assert lines[0].split() == [
        "path",
        "shape",
        "reads",
        "as",
        "block",
        "grid",
        "asked",
        "reachable",
    ]
    assert lines[2].split() == (
        ["conv/kernel", "3x3x16x32", "3x3x16", "|", "32", "16x16", "9x2", "0.5", "0.5"]
    )
    assert lines[1].split()[:3] == ["conv/bias", "32", "dense"]


# ResNet-50's own shapes, and the sparsities that arXiv 2402.17902 prints for it.


@functools.cache
def resnet50():
    net = build("resnet50", classes=1000)
    made = jax.eval_shape(net.init, jax.random.key(0), shape(1, 224, 224, 3))
    return {"params": made["params"]}


def of_resnet50(block, density):
    return blocks(resnet50(), [Rule("*", (block, block))], density=density)


def actual(layers, kept):
    """Of all convolutions and fc, with `kept(density, blocks)` blocks in each pruned layer."""
    entries = {layer.path: layer.entries for layer in layers if layer.path.endswith("kernel")}
    assert sum(entries.values()) == 25_502_912
    cut = [layer for layer in layers if layer.group]
    units = {layer.path: (kept(layer.asked, layer.group.size), layer.group.size) for layer in cut}
    return 100 * actual_sparsity(entries, units)


def floor(density, count):
    return math.floor(density * count)


@pytest.mark.parametrize(
    ("block", "decimals", "printed"),
    [
        (8, (70.0, 80.0, 90.0, 95.0), (70, 80, 90, 95)),
        (16, (69.7, 79.7, 89.6, 94.6), (70, 80, 90, 95)),
        (32, (68.1, 77.8, 87.6, 92.4), (68, 78, 88, 92)),
        (64, (57.9, 66.2, 74.4, 78.6), (58, 66, 74, 79)),
    ],
)
def test_resnet50_has_the_published_actual_sparsities(block, decimals, printed):
    found = [of_resnet50(block, density) for density in ("0.3", "0.2", "0.1", "0.05")]
    exactly = [actual(layers, floor) for layers in found]
    assert all(isinstance(sparsity, Fraction) for sparsity in exactly)
    assert tuple(round(float(s), 1) for s in exactly) == decimals
    assert tuple(round(s) for s in exactly) == printed
    reachable = [
        {layer.path: layer.reachable for layer in layers if layer.group} for layers in found
    ]
    for layers, shares in zip(found, reachable, strict=True):
        kept = {layer.path: floor(layer.asked, layer.group.size) for layer in layers if layer.group}
        sizes = {layer.path: layer.group.size for layer in layers if layer.group}
        assert shares == {path: Fraction(kept[path], sizes[path]) for path in sizes}


def test_another_rounding_prints_other_sparsities():
    nearest = lambda density, count: round(float(density) * count)
    assert round(actual(of_resnet50(32, "0.1"), nearest)) == 87
    assert round(actual(of_resnet50(64, "0.05"), nearest)) == 78


def in_stage(stage, blocks, names):
    return [f"params/layer{stage}_{b}/{name}/kernel" for b in range(blocks) for name in names]


def left_dense_in_resnet50():
    first, down = "params/conv1/kernel", "params/layer{}_0/downsample_conv/kernel".format
    thin = ("conv1", "conv3")
    layer1 = [*in_stage(1, 3, ("conv1", "conv2", "conv3")), down(1)]
    layer2 = [*in_stage(2, 4, ("conv1", "conv2", "conv3")), down(2)]
    return {
        8: ["params/layer1_0/conv1/kernel"],
        16: [first, *in_stage(1, 3, thin), down(1)],
        32: [first, *layer1, *in_stage(2, 4, thin)],
        64: [first, *layer1, *layer2, *in_stage(3, 6, thin)],
    }


@pytest.mark.parametrize(("block", "number"), [(8, 1), (16, 8), (32, 19), (64, 36)])
def test_resnet50_leaves_the_published_layers_dense(block, number):
    layers = of_resnet50(block, "0.1")
    dense = [layer.path for layer in layers if layer.path.endswith("kernel") and not layer.group]
    assert sorted(dense) == sorted(left_dense_in_resnet50()[block])
    assert len(dense) == number
    assert next(layer for layer in layers if layer.path == "params/fc/kernel").group


def test_a_ragged_classifier_counts_its_ragged_blocks():
    (fc,) = (layer for layer in of_resnet50(64, "0.1") if layer.path == "params/fc/kernel")
    assert fc.group.grid == (32, 16)  # 1000 = 15 * 64 + 40


# Bad rules.


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


def test_masks_are_zero_or_one_in_the_weights_shape():
    tree = {"w": jnp.asarray(integers(1, 35, 35))}
    layers, masks, _ = pruned(tree, [Rule("w", (16, 16))], "0.5")
    wide = spread(partition_of(layers), masks, tree)["w"]
    assert wide.shape == (35, 35) and wide.dtype == bool
