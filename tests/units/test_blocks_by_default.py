"""What a rule without exceptions prunes, and what it says of the rest."""

import jax
import jax.numpy as jnp
import pytest

from sparsity.models import build
from sparsity.units.blocks import Rule, blocks, table


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


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
