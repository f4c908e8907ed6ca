"""Residual networks have the published sizes, strides and shortcuts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.models import build
from sparsity.models.resnet import ResNet, Stem
from sparsity.units.uses import multiplies

compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def zeros(side):
    return jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)


def shapes(name, classes, side, **kwargs):
    """The network's function, and its variables without their values."""
    module = build(name, classes=classes, **kwargs)
    return module.apply, jax.eval_shape(module.init, jax.random.key(0), zeros(side))


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def kernels(params):
    paths = jax.tree_util.tree_leaves_with_path({"params": params})
    named = {"/".join(k.key for k in path): leaf for path, leaf in paths}
    return {path: leaf for path, leaf in named.items() if path.endswith("/kernel")}


def outputs(module, variables, x) -> dict[str, jax.Array]:
    """What each block puts out."""
    run = partial(module.apply, capture_intermediates=True, mutable=["intermediates"])
    _, state = compiled(run)(variables, x)
    named = state["intermediates"].items()
    return {name: seen["__call__"][0] for name, seen in named if name.startswith("layer")}


def cifar_parameters(n, classes=10):
    """6n + 2 layers: the stem, 2n convolutions of 16, 32, 64 channels, norms, the classifier."""
    total = 9 * 3 * 16 + 64 * classes + classes + 2 * 16
    before = 16
    for width in (16, 32, 64):
        total += 9 * before * width + 9 * width * width * (2 * n - 1) + 2 * width * 2 * n
        before = width
    return total


@pytest.mark.parametrize(
    ("depth", "n", "published"),
    [(20, 3, 269_722), (32, 5, 464_154), (56, 9, 853_018), (110, 18, 1_727_962)],
)
def test_cifar_networks_have_the_published_parameters(depth, n, published):
    _, variables = shapes(f"resnet{depth}", 10, 32)
    assert size(variables["params"]) == published == cifar_parameters(n)


def test_projections_add_their_convolution_and_norm():
    _, variables = shapes("resnet20", 10, 32, shortcut="project")
    assert size(variables["params"]) == 269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64)


@pytest.mark.parametrize(
    ("name", "published", "weights", "layers"),
    [
        ("resnet18", 11_689_512, 11_678_912, 21),
        ("resnet34", 21_797_672, 21_779_648, 37),
        ("resnet50", 25_557_032, 25_502_912, 54),
    ],
)
def test_imagenet_networks_have_the_published_parameters(name, published, weights, layers):
    _, variables = shapes(name, 1000, 224)
    found = kernels(variables["params"])
    assert size(variables["params"]) == published
    assert (size(found), len(found)) == (weights, layers)


@pytest.mark.parametrize(
    ("name", "classes", "side", "macs"),
    [
        ("resnet56", 10, 32, 125_485_696),
        ("resnet110", 10, 32, 252_887_680),
        ("resnet18", 1000, 224, 1_814_073_344),
        ("resnet34", 1000, 224, 3_663_761_408),
        ("resnet50", 1000, 224, 4_089_184_256),
    ],
)
def test_macs_are_the_published_ones(name, classes, side, macs):
    uses = multiplies(*shapes(name, classes, side), zeros(side))
    assert sum(uses.per_entry[path] * n for path, n in uses.entries.items()) == macs
    assert uses.fixed == 0


def test_stride_of_a_bottleneck_sits_in_its_3x3_convolution():
    uses = multiplies(*shapes("resnet50", 1000, 224), zeros(224)).per_entry
    sides = [uses[f"params/layer2_0/conv{i}/kernel"] for i in (1, 2, 3)]
    assert sides == [56 * 56, 28 * 28, 28 * 28]


def test_imagenet_blocks_start_as_their_shortcuts():
    stem, inner = Stem(4, 3, 1, False), (((4, 4), (4, 4)),) * 2
    module = ResNet(5, stem, (8, 8), inner, "project", True, "fc")
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    variables = compiled(module.init)(jax.random.key(1), x)
    scales = [variables["params"][f"layer{s}_{b}"]["bn3"]["scale"] for s in (1, 2) for b in (0, 1)]
    np.testing.assert_array_equal(scales, 0.0)
    first, second = (outputs(module, variables, x)[f"layer2_{b}"] for b in (0, 1))
    np.testing.assert_array_equal(first, second)
    assert build("resnet50", classes=5).zero_init and not build("resnet20", classes=5).zero_init


def test_padded_shortcut_takes_every_second_pixel_and_appends_zero_channels():
    inner = (((4,),), ((6,),), ((8,),))
    module = build("resnet20", classes=5, stream=(4, 6, 8), inner=inner)
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    variables = compiled(module.init)(jax.random.key(1), x)
    # without its last scale and bias a branch is silent, and only the shortcut is left
    params = jax.tree.map(lambda leaf: leaf, variables["params"])
    params["layer2_0"]["bn2"]["scale"] = jnp.zeros(6)
    seen = outputs(module, {**variables, "params": params}, x)
    before, after = seen["layer1_0"], seen["layer2_0"]
    np.testing.assert_array_equal(after[..., :4], before[:, ::2, ::2])
    np.testing.assert_array_equal(after[..., 4:], 0.0)


def test_inner_widths_are_set_block_by_block():
    inner = (((3,), (5,)), ((4,),), ((7,), (2,)))
    _, variables = shapes("resnet20", 10, 32, inner=inner)
    params = variables["params"]
    assert params["layer1_1"]["conv1"]["kernel"].shape == (3, 3, 16, 5)
    assert params["layer3_1"]["conv2"]["kernel"].shape == (3, 3, 2, 64)
    assert "layer2_1" not in params


BAD = [
    ({"shortcut": "none"}, "pad, project"),
    ({"inner": (((4,),), ((4,),))}, "3 stream widths for 2 stages"),
    ({"inner": (((4, 4, 4),), ((4,),), ((4,),))}, "1 or 2 inner widths"),
    ({"stream": (8, 4, 16)}, "cannot narrow"),
]


@pytest.mark.parametrize(("kwargs", "words"), BAD)
def test_widths_that_do_not_fit_are_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        shapes("resnet20", 10, 32, **kwargs)
