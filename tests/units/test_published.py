"""Published integers of published networks: their costs, and the sparsities that arXiv 2402.17902 prints."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import pytest

from sparsity.models import build
from sparsity.units.blocks import Rule, blocks
from sparsity.units.costs import (
    actual_sparsity,
    macs,
    multiplies,
)


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


# ResNet-50 on 224 x 224: (side of the output, side of the kernel, channels in, channels out).
def layers_by_hand():
    layers = [(112, 7, 3, 64)]
    into, side = 64, 56
    for width, number in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(number):
            before = side
            if block == 0 and width > 64:
                side //= 2
            layers += [
                (before, 1, into, width),
                (side, 3, width, width),
                (side, 1, width, 4 * width),
            ]
            layers += [(side, 1, into, 4 * width)] if block == 0 else []
            into = 4 * width
    return [*layers, (1, 1, 2048, 1000)]


def traced(name, image, **options):
    net = build(name, **options)
    variables = jax.eval_shape(net.init, jax.random.key(0), shape(1, *image))
    return multiplies(net.apply, variables, shape(1, *image))


def test_resnet50_costs_what_is_published():
    uses = traced("resnet50", (224, 224, 3), classes=1000)
    weights = [path for path in uses.entries if path.endswith("kernel")]
    assert macs(uses) == 4_089_184_256
    assert uses.fixed == 0
    assert sum(uses.entries[path] for path in weights) == 25_502_912
    assert all(uses.per_entry[path] == 0 for path in uses.entries if path not in weights)
    by_hand = sorted((o * o, k * k * i * c) for o, k, i, c in layers_by_hand())
    assert sorted((uses.per_entry[path], uses.entries[path]) for path in weights) == by_hand


def test_resnet56_costs_what_is_published():
    uses = traced("resnet56", (32, 32, 3), classes=10)
    learned = sum(n for path, n in uses.entries.items() if path.startswith("params"))
    assert (macs(uses), learned) == (125_485_696, 853_018)


@pytest.mark.parametrize(
    "block, printed",
    [(8, (70, 80, 90, 95)), (16, (70, 80, 90, 95)), (32, (68, 78, 88, 92)), (64, (58, 66, 74, 79))],
)
def test_actual_sparsity_is_what_the_paper_prints(block, printed):
    """arXiv 2402.17902, table 1; a layer of at least 100 blocks keeps floor(density * blocks)."""
    entries = {str(n): k * k * i * c for n, (_, k, i, c) in enumerate(layers_by_hand())}
    grids = [-(-k * k * i // block) * -(-c // block) for _, k, i, c in layers_by_hand()]
    for percent, expected_percent in zip((70, 80, 90, 95), printed, strict=True):
        density = 1 - Fraction(percent, 100)
        units = {str(n): (int(density * g), g) for n, g in enumerate(grids) if g >= 100}
        assert round(100 * actual_sparsity(entries, units)) == expected_percent


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
