"""A network whose products are exchanged computes what it did, whatever library wrote it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.kernels.calls import Call
from sparsity.kernels.packed import PackedMatrix
from sparsity.models import build
from sparsity.surgery.serving import packed_weights
from sparsity.surgery.substitution import substituted
from sparsity.target import Target
from sparsity.units.blocks import Rule, blocks
from sparsity.units.partition import leaves, scale
from tests.surgery.variables import variables_of


def pruned(params, rules, density=0.5):
    """(params with dead blocks 0, partition, masks)."""
    layers = blocks(params, rules, density=density, at_least=1)
    partition, rng = Target.of(layers).partition, np.random.default_rng(0)
    masks = {name: rng.random(group.grid) < density for name, group in partition.items()}
    held = {name: jnp.asarray(mask) for name, mask in masks.items()}
    return scale(partition, held, params), partition, masks


def exchanged(apply, params, rules, inputs):
    """(outputs with block-sparse products, outputs without, how each weight was used)."""
    params, partition, masks = pruned(params, rules)
    weights, _ = packed_weights(params, partition, masks)
    assert sum(isinstance(w, PackedMatrix) for w in weights.values()) == len(partition)
    uses = {}

    @jax.jit
    def run(weights, inputs):
        outputs, found = substituted(apply, params, "sparse")(weights, inputs)
        uses.update(found)
        return outputs

    return run(weights, inputs), jax.jit(apply)(params, inputs), uses


def near(got, asked, tolerance=2e-5):
    got, asked = np.asarray(got, np.float32), np.asarray(asked, np.float32)
    assert got.shape == asked.shape and np.ptp(asked) > 0
    np.testing.assert_allclose(got, asked, rtol=0, atol=tolerance * np.abs(asked).max())


NETWORKS = {
    "mlp": ({"name": "mlp", "widths": (32, 48)}, (16, 16), 2e-5),
    "mlp in bfloat16": ({"name": "mlp", "widths": (32, 48), "dtype": "bfloat16"}, (16, 16), 3e-2),
    "cnn": ({"name": "cnn", "widths": (8, 16), "hidden": (32,)}, (8, 8), 2e-5),
    "vit": (
        {"name": "vit", "patch": 4, "width": 32, "heads": (2,), "head_width": 16, "mlp": (64,)},
        (16, 8),
        5e-5,
    ),
    "vit, scanned": (
        {
            "name": "vit",
            "patch": 4,
            "width": 32,
            "heads": (2, 2),
            "head_width": 16,
            "mlp": (64, 64),
            "scan_layers": True,
        },
        (16, 8),
        5e-5,
    ),
}


# The quick suite has their kinds of products in test_serving.py and in the plain functions below.
QUICK = ("mlp in bfloat16",)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in NETWORKS]
)
def test_a_linen_networks_products_are_block_sparse_and_its_outputs_the_same(name):
    model, block, tolerance = NETWORKS[name]
    module = build(classes=10, **model)
    images = jax.random.normal(jax.random.key(2), (5, 8, 8, 3))
    variables = variables_of(module, images)
    stacked = {"batch": (0,)} if "scan" in name else {}
    patterns = [p for p in leaves(variables) if p.endswith("kernel") and "head/" not in p]
    rules = [Rule(p, block, **stacked) for p in patterns if "embed" not in p]
    got, asked, uses = exchanged(lambda v, x: module.apply(v, x), variables, rules, images)
    near(got, asked, tolerance)
    assert len(uses) == len(rules)
    assert all(isinstance(use, Call) for found in uses.values() for use in found)
    assert all(uses.values())


def weights(*shapes):
    rng = np.random.default_rng(3)
    return {f"w{i}": jnp.asarray(rng.normal(size=s) / 4, jnp.float32) for i, s in enumerate(shapes)}


@jax.custom_jvp
def called(w, x):
    return x @ w


called.defjvp(lambda primals, tangents: (called(*primals), called(*tangents)))


def convolved(p, x, padding="SAME", **options):
    images = x.reshape(-1, 2, 2, 8)
    layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")} | options
    return jax.lax.conv_general_dilated(images, p["w0"], (1, 1), padding, **layout)


PLAIN = {
    # (function, shapes of weights, rules beside blocks of (8, 8) for all)
    "weights of (outputs, inputs)": (
        lambda p, x: jax.vmap(lambda a: p["w0"] @ a)(x),
        [(24, 32)],
        {},
    ),
    "a transpose": (lambda p, x: x @ p["w0"].T, [(24, 32)], {}),
    "a call, a cast and remat": (
        lambda p, x: jax.checkpoint(called)(p["w0"].astype("bfloat16").astype("float32"), x),
        [(32, 24)],
        {},
    ),
    "used twice": (lambda p, x: (x @ p["w0"]) @ p["w0"], [(32, 32)], {}),
    "many axes": (
        lambda p, x: jnp.einsum("bij,kjil->bkl", x.reshape(-1, 8, 4), p["w0"]),
        [(3, 4, 8, 8)],
        {"rows": (1, 2), "cols": (0, 3)},
    ),
    "a 1x1 convolution with strides": (
        lambda p, x: jax.lax.conv_general_dilated(
            x.reshape(-1, 2, 2, 8),
            p["w0"],
            (2, 2),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
        [(1, 1, 8, 16)],
        {},
    ),
    "a convolution with its own padding": (
        lambda p, x: convolved(p, x, padding=((2, 2), (3, 0))),
        [(3, 3, 8, 16)],
        {},
    ),
    "a 1x1 convolution with zeros around": (
        lambda p, x: convolved(p, x, padding=((1, 0), (0, 1))),
        [(1, 1, 8, 16)],
        {},
    ),
    "a scan over layers, backwards": (
        lambda p, x: jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), c), x, p["w0"], reverse=True),
        [(3, 32, 32)],
        {"batch": (0,)},
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_functions_products_are_block_sparse_and_its_outputs_the_same(name):
    run, shapes, axes = PLAIN[name]
    rules = [Rule("w*", (8, 8), **axes)]
    x = jax.random.normal(jax.random.key(4), (6, 32))
    got, asked, uses = exchanged(run, weights(*shapes), rules, x)
    jax.tree.map(functools.partial(near, tolerance=1e-2 if "cast" in name else 2e-5), got, asked)
    assert all(isinstance(use, Call) for found in uses.values() for use in found)
    assert all(uses.values())


SQUARE = (32, 32)
REASONS = {
    # (function, shape of the weight, reason)
    "added": (lambda p, x: x[:1] + p["w0"], SQUARE, "used by add"),
    "given back": (lambda p, x: p["w0"], SQUARE, "given back"),
    "reshaped": (lambda p, x: x @ p["w0"].reshape(32, 16), (16, 32), "used by reshape"),
    "a weight for each entry": (
        lambda p, x: jnp.einsum("bi,ij->bij", x, p["w0"]),
        SQUARE,
        "one matrix for each entry of a batch",
    ),
    "half of its rows": (
        lambda p, x: jnp.einsum("bi,ijk->bjk", x, p["w0"]),
        (32, 2, 8),
        "contracted along axes (0,), which are not its rows or columns",
    ),
    "another precision": (
        lambda p, x: jnp.matmul(
            x.astype("bfloat16"), p["w0"].astype("bfloat16"), preferred_element_type=jnp.float32
        ),
        SQUARE,
        "its product of bfloat16 is asked for as float32",
    ),
    "negative padding": (
        lambda p, x: convolved(p, x, padding=((2, 2), (-1, 3))),
        (3, 3, 8, 8),
        "a convolution of cut images, by the padding ((2, 2), (-1, 3))",
    ),
    "dilation": (
        lambda p, x: convolved(p, x, padding=((1, 1), (1, 1)), lhs_dilation=(2, 2)),
        (3, 3, 8, 8),
        "a convolution in groups or with dilation",
    ),
    "channels first": (
        lambda p, x: convolved(p, x, dimension_numbers=("NCHW", "HWIO", "NHWC")),
        (2, 2, 2, 8),
        "a convolution of images that are not (count, height, width, channels)",
    ),
    "held over a scan": (
        lambda p, x: jax.lax.scan(lambda c, _: (jnp.tanh(c @ p["w0"]), None), x, None, length=2)[0],
        SQUARE,
        "held over a scan",
    ),
    "rows taken by a scan": (
        lambda p, x: jax.lax.scan(lambda c, w: (c + w, None), x, p["w0"])[0],
        SQUARE,
        "cut into slices by a scan",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_any_other_use_unpacks_the_weight_and_says_why(name):
    run, shape, reason = REASONS[name]
    x = jax.random.normal(jax.random.key(4), (6, 32))
    got, asked, uses = exchanged(run, weights(shape), [Rule("w*", (4, 8))], x)
    near(got, asked, 1e-2 if name == "another precision" else 2e-5)
    assert {use for found in uses.values() for use in found} == {reason}


def test_weights_of_another_network_are_refused():
    params = weights((32, 32))
    run = substituted(lambda p, x: x @ p["w0"], params)
    x = jnp.ones((2, 32))
    for changed, words in (
        ({}, "there is no weight 'w0'"),
        ({**params, "w1": x}, "the network has no weight 'w1'"),
        ({"w0": x}, r"'w0' is float32\[2, 32\], and the network takes float32\[32, 32\]"),
        ({"w0": params["w0"].astype("bfloat16")}, "'w0' is bfloat16"),
    ):
        with pytest.raises(ValueError, match=words):
            run(changed, x)
