"""What lies where: rules win, shards end where blocks end if they can, and what does not divide is whole."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sparsity.models.vit import ViT
from sparsity.train.sharding import AXES, Rule, layout
from sparsity.units.blocks import Rule as Blocks
from sparsity.units.blocks import blocks, partition_of
from sparsity.units.partition import leaves, unit_sharding

SHAPES = {
    "dense": {"kernel": (96, 64), "bias": (64,)},
    "wide": {"kernel": (64, 4096)},
    "conv": {"kernel": (3, 3, 32, 64)},
    "odd": {"kernel": (75, 33)},
}
TREE = {
    "params": {
        name: {key: jax.ShapeDtypeStruct(shape, jnp.float32) for key, shape in own.items()}
        for name, own in SHAPES.items()
    }
}
PARTITION = partition_of(blocks(TREE, [Blocks("*/kernel", (16, 16))], density="0.5", at_least=1))


def mesh_of(*sizes):
    return jax.make_mesh(sizes, AXES, (AxisType.Auto,) * 3)


def specs(mesh, *rules):
    return {path: s.spec for path, s in layout(mesh, PARTITION, TREE, rules).params.items()}


def test_fsdp_takes_the_axis_whose_shards_end_where_blocks_end():
    found = specs(mesh_of(1, 4, 1))
    # 96 rows in 4 are no whole blocks of 16; 64 columns are.
    assert found["params/dense/kernel"] == P(None, "fsdp")
    assert found["params/wide/kernel"] == P(None, "fsdp")
    assert found["params/conv/kernel"] == P(None, None, None, "fsdp")
    assert found["params/dense/bias"] == P() and found["params/odd/kernel"] == P(None, None)


def test_model_takes_the_columns_and_fsdp_what_is_left():
    found = specs(mesh_of(1, 2, 4))
    assert found["params/dense/kernel"] == P("fsdp", "model")
    assert found["params/wide/kernel"] == P("fsdp", "model")
    assert found["params/conv/kernel"] == P(None, None, "fsdp", "model")


def transformer():
    """Shapes of a vision transformer's first layer and of what surrounds the layers, and their partition."""
    model = ViT(classes=100, heads=(4, 4), mlp=(256, 256))
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    tree = jax.eval_shape(model.init, jax.random.key(0), images)
    layers = blocks(tree, [Blocks("*/kernel", (16, 16))], density="0.5", at_least=1)
    return tree, partition_of(layers)


def test_model_cuts_heads_and_a_perceptron_s_inner_width_and_leaves_what_layers_add_to():
    tree, partition = transformer()
    found = layout(mesh_of(1, 1, 4), partition, tree).params
    layer = {
        name: found[f"params/layer1/{name}/kernel"].spec for name in ("query", "out", "mlp_in")
    }
    assert layer == {
        "query": P(None, "model", None),
        "out": P("model", None, None),
        "mlp_in": P(None, "model"),
    }
    assert found["params/layer1/mlp_out/kernel"].spec == P("model", None)
    assert found["params/head/kernel"].spec == P(None, "model")
    for path in ("params/embed/kernel", "params/positions"):
        assert "model" not in found[path].spec


def test_what_is_small_and_what_does_not_divide_lies_whole_on_every_device():
    tree, partition = transformer()
    found = layout(mesh_of(1, 8, 1), partition, tree).params
    # 4 heads of 16, as a bias of two axes; three heads' worth of devices divide no axis of 64.
    assert found["params/layer1/query/bias"].spec == P()
    assert found["params/layer1/query/kernel"].spec == P("fsdp", None, None)
    three = layout(jax.make_mesh((1, 1, 3), AXES, (AxisType.Auto,) * 3), partition, tree).params
    assert not any("model" in lies.spec for lies in three.values())


def test_the_first_rule_that_matches_wins():
    rules = Rule("params/wide/*", ("model", None)), Rule("*/kernel", (None, None))
    found = specs(mesh_of(2, 1, 4), *rules[:1])
    assert found["params/wide/kernel"] == P("model", None)
    assert found["params/dense/kernel"] == P(None, "model")


def test_units_lie_with_their_weight_where_shards_end_where_blocks_end():
    lies = layout(mesh_of(2, 2, 2), PARTITION, TREE)
    found = {
        name: unit_sharding(lies.params[name], leaves(TREE)[name], group).spec
        for name, group in PARTITION.items()
    }
    assert found["params/dense/kernel"] == P("fsdp", "model")
    # The inputs are not the slowest of the axes that are merged into rows.
    assert found["params/conv/kernel"] == P(None, "model")
    assert found["params/odd/kernel"] == P(None, None)


BAD = [
    (
        Rule("params/head/*", (None, None)),
        "'params/head/\\*' of mesh.rules matches no parameter; there",
    ),
    (Rule("*/kernel", ("modle", None)), "axis of the mesh .*'modle'.*model"),
    (Rule("params/dense/*", ("model", "model")), "names an axis twice"),
    (
        Rule("params/conv/*", ("fsdp", None)),
        "has 2 axes, but params/conv/kernel is \\(3, 3, 32, 64\\)",
    ),
    (Rule("params/odd/*", ("fsdp", None)), "an axis of 75 .* over fsdp, which has 2 devices"),
]


@pytest.mark.parametrize(("rule", "words"), BAD)
def test_a_rule_that_shares_nothing_out_is_refused_in_words(rule, words):
    with pytest.raises(ValueError, match=words):
        layout(mesh_of(2, 2, 2), PARTITION, TREE, [rule])
