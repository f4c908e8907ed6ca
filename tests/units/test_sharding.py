"""Eight devices give the masks of one, and no weight is gathered on the way."""

import functools
import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sparsity.units.masks import globally, per_group, to_budget
from sparsity.units.partition import Group, View, pool, scale, spread, tiles
from sparsity.units.scores import SCORES, norms

KINDS = [AxisType.Auto, AxisType.Explicit]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
MATRIX = ((0,), (1,))
HWIO = ((0, 1, 2), (3,))


class Layout(NamedTuple):
    """A weight, how it is cut and sharded, and what its pooling may move (see `allowed`)."""

    shape: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]
    block: tuple[int, ...]
    spec: P
    moves: str
    mesh: tuple[int, ...] = (8,)
    batch: int = 0


LAYOUTS = {
    # Blocks end where shards end.
    "rows": Layout((256, 256), MATRIX, (16, 16), P("x", None), "nothing"),
    "columns": Layout((256, 384), MATRIX, (16, 16), P(None, "x"), "nothing"),
    "both axes": Layout((256, 256), MATRIX, (16, 16), P("x", "y"), "nothing", (4, 2)),
    "stacked layers": Layout(
        (16, 64, 64), ((0,), (1,), (2,)), (1, 16, 16), P("x"), "nothing", batch=1
    ),
    "rows of stacked layers": Layout(
        (3, 128, 64), ((0,), (1,), (2,)), (1, 16, 16), P(None, "x"), "nothing", batch=1
    ),
    "outputs of a convolution": Layout(
        (3, 3, 64, 128), HWIO, (16, 16), P(None, None, None, "x"), "nothing"
    ),
    "inputs of a convolution": Layout(
        (3, 3, 128, 64), HWIO, (16, 16), P(None, None, "x", None), "units"
    ),
    # They don't.
    "blocks of two shards": Layout((256, 256), MATRIX, (64, 64), P("x", None), "pooled"),
    "inputs of a thin convolution": Layout(
        (3, 3, 64, 128), HWIO, (16, 16), P(None, None, "x", None), "pooled"
    ),
    "a leaf that is one unit": Layout((256, 64), ((),), (1,), P("x", None), "pooled"),
    "ragged rows": Layout((200, 256), MATRIX, (16, 16), P("x", None), "pooled"),
    "ragged columns": Layout((256, 200), MATRIX, (16, 16), P(None, "x"), "pooled"),
    "ragged on both sides, rows": Layout((200, 200), MATRIX, (16, 16), P("x", None), "rims"),
    "ragged on both sides, columns": Layout((200, 200), MATRIX, (16, 16), P(None, "x"), "rims"),
    "nine rows of blocks": Layout((144, 144), MATRIX, (16, 16), P("x", None), "rims"),
    "merged heads, ragged": Layout((16, 16, 200), ((0, 1), (2,)), (24, 32), P(None, "x"), "pooled"),
}


def mesh_of(kind, shape=(8,)):
    names = ("x", "y")[: len(shape)]
    return jax.make_mesh(shape, names, axis_types=(kind,) * len(shape))


def partition_of(layout):
    view = View("w", layout.shape, layout.axes, layout.block)
    return {"w": Group(tiles(view), (view,), batch=layout.batch)}


def weight(layout):
    """Small integers, of which sums are exact in any order."""
    return np.random.default_rng(0).integers(-4, 5, layout.shape).astype(np.float32)


def prune(partition, keep, tree):
    units = SCORES["l1"].value(partition, tree, None, None, None)
    masks = per_group(partition, units, keep)
    return units, masks, scale(partition, masks, tree)


@functools.cache
def compiled(name, kind):
    """The pruning step of a layout on eight devices, and its weight there."""
    layout = LAYOUTS[name]
    mesh = mesh_of(kind, layout.mesh)
    w = jax.device_put(weight(layout), NamedSharding(mesh, layout.spec))
    keep = {"w": partition_of(layout)["w"].size // 3}
    step = jax.jit(functools.partial(prune, partition_of(layout)))
    return step.lower(keep, {"w": w}).compile(), keep, {"w": w}


@functools.cache
def pruned_alone(name):
    """The same on one device."""
    layout = LAYOUTS[name]
    keep = {"w": partition_of(layout)["w"].size // 3}
    return jax.jit(functools.partial(prune, partition_of(layout)))(keep, {"w": weight(layout)})


COLLECTIVES = (
    "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
)


def moved(text, dtype="f32"):
    """(collective, size) for each array of the type that crosses between devices."""
    found = []
    for line in text.splitlines():
        match = re.search(rf"= (.*?) ({COLLECTIVES})(-start)?\(", line)
        if match:
            sizes = re.findall(rf"\b{dtype}\[([\d,]*)\]", match[1])
            found += [(match[2], math.prod(int(n) for n in size.split(",") if n)) for size in sizes]
    return found


def allowed(layout, kind, collective):
    """The size of the largest array that may cross."""
    size, units = math.prod(layout.shape), math.prod(partition_of(layout)["w"].grid)
    # Units in one axis, entries in the other; XLA pads ragged units to a multiple of the devices.
    pooled = 1.3 * size / min((b for b in layout.block if b > 1), default=64)
    if layout.moves == "rims" and kind == AxisType.Auto and collective == "collective-permute":
        return max(pooled, size / 8)  # nobody says which axis is sharded: no more than a shard
    return {"nothing": 1, "units": units}.get(layout.moves, pooled)


@kinds
@pytest.mark.parametrize("name", LAYOUTS)
def test_no_more_than_pooled_arrays_cross_between_devices(name, kind):
    layout = LAYOUTS[name]
    text = compiled(name, kind)[0].as_text()
    too_large = [
        (collective, size)
        for collective, size in moved(text)
        if size > allowed(layout, kind, collective)
    ]
    assert not too_large, f"of {math.prod(layout.shape)} entries"


@kinds
@pytest.mark.parametrize("name", LAYOUTS)
def test_masks_are_the_same_on_one_device_and_on_eight(name, kind):
    step, keep, tree = compiled(name, kind)
    assert len(tree["w"].sharding.device_set) == 8
    units, masks, new = step(keep, tree)
    layout = LAYOUTS[name]
    for there, here in zip((units, masks, new), pruned_alone(name), strict=True):
        np.testing.assert_array_equal(there["w"], here["w"])
    axes = tuple(range(layout.batch, masks["w"].ndim))
    assert (np.asarray(masks["w"]).sum(axes) == keep["w"]).all()
    assert new["w"].sharding.is_equivalent_to(tree["w"].sharding, new["w"].ndim)


def test_the_reader_of_collectives_sees_a_gathered_weight():
    mesh = mesh_of(AxisType.Auto)
    w = jax.device_put(weight(LAYOUTS["rows"]), NamedSharding(mesh, P("x", None)))
    gather = jax.jit(lambda w: w * 2, out_shardings=NamedSharding(mesh, P()))
    assert moved(gather.lower(w).compile().as_text()) == [("all-gather", 256 * 256)]
    total = jax.jit(jnp.sum).lower(w).compile().as_text()
    assert moved(total) == [("all-reduce", 1)]


# Several groups: one selection over all of them.


def nets(kind):
    """A partition of differently cut and sharded leaves, its tree on eight devices and on one."""
    conv = View("conv", (3, 3, 16, 64), HWIO, (8, 8))
    dense = View("dense", (100, 64), MATRIX, (16, 16))
    stack = View("stack", (8, 32, 16), ((0,), (1,), (2,)), (1, 8, 8))
    groups = {"conv": (conv, 0), "dense": (dense, 0), "stack": (stack, 1)}
    partition = {n: Group(tiles(view), (view,), batch=b) for n, (view, b) in groups.items()}
    draw = np.random.default_rng(1)
    alone = {n: draw.integers(-4, 5, v.shape).astype(np.float32) for n, (v, _) in groups.items()}
    mesh = mesh_of(kind, (4, 2))
    specs = {"conv": P(None, None, "y", "x"), "dense": P("x", "y"), "stack": P(("x", "y"))}
    there = {n: jax.device_put(w, NamedSharding(mesh, specs[n])) for n, w in alone.items()}
    return partition, there, alone


@kinds
def test_one_selection_over_all_groups_is_the_same_on_eight_devices(kind):
    partition, there, alone = nets(kind)
    costs = {name: 1.0 + (np.indices(g.grid).sum(0) % 3) for name, g in partition.items()}

    @jax.jit
    def select(tree):
        units = SCORES["l1"].value(partition, tree, None, None, None)
        keep = {name: group.size // 4 for name, group in partition.items()}
        return globally(partition, units, keep, 1), to_budget(partition, units, costs, 200.0)

    jax.tree.map(np.testing.assert_array_equal, select(there), select(alone))


def loss(partition, units, tree):
    """Reads units through the weights, and weights through the norms of their units."""
    scaled = scale(partition, units, tree)
    seen = sum(jnp.sum(jnp.square(w)) for w in jax.tree.leaves(scaled))
    return seen + sum(jnp.sum(n) for n in norms(partition, scaled).values())


@kinds
def test_gradients_are_the_same_on_eight_devices(kind):
    partition, there, alone = nets(kind)
    units = {name: jnp.ones(g.grid) for name, g in partition.items()}
    gradient = jax.jit(jax.grad(functools.partial(loss, partition), argnums=(0, 1)))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
    found = gradient(units, there)
    jax.tree.map(close, found, gradient(units, alone))
    for name, w in there.items():
        assert found[1][name].sharding.is_equivalent_to(w.sharding, w.ndim)


@pytest.mark.parametrize("name", [n for n, layout in LAYOUTS.items() if layout.moves == "rims"])
def test_a_gradient_gathers_no_weight_where_its_sharding_is_known(name):
    layout = LAYOUTS[name]
    partition, sharding = partition_of(layout), NamedSharding(mesh_of(KINDS[1]), layout.spec)
    tree = {"w": jax.device_put(weight(layout), sharding)}
    gradient = jax.jit(jax.grad(functools.partial(loss, partition), argnums=(0, 1)))
    text = gradient.lower({"w": jnp.ones(partition["w"].grid)}, tree).compile().as_text()
    assert max(size for _, size in moved(text)) <= allowed(layout, KINDS[1], "all-gather")


@kinds
def test_a_group_may_lie_in_leaves_that_are_sharded_differently(kind):
    views = (
        View("conv", (3, 3, 8, 16), ((3,),), (1,)),
        View("scale", (16,), ((0,),), (1,)),
        View("next", (8, 10), ((0,),), (1,), (8,)),
    )
    partition = {"channels": Group((16,), views)}
    draw = np.random.default_rng(2)
    alone = {v.path: draw.integers(-4, 5, v.shape).astype(np.float32) for v in views}
    mesh = mesh_of(kind)
    specs = {"conv": P(None, None, "x"), "scale": P("x"), "next": P("x", None)}
    there = {n: jax.device_put(w, NamedSharding(mesh, specs[n])) for n, w in alone.items()}

    def both(tree):
        units = pool(partition, tree)
        return units, spread(partition, units, tree), scale(partition, units, tree)

    # Inside and outside of a compiled function.
    for function in (both, jax.jit(both)):
        jax.tree.map(np.testing.assert_array_equal, function(there), both(alone))


def test_a_mesh_may_mix_explicit_and_automatic_axes():
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Explicit, AxisType.Auto))
    layout = LAYOUTS["ragged rows"]
    w = jax.device_put(weight(layout), NamedSharding(mesh, P("x", "y")))
    step = jax.jit(functools.partial(prune, partition_of(layout), {"w": 50}))
    alone = step({"w": weight(layout)})
    jax.tree.map(np.testing.assert_array_equal, step({"w": w}), alone)
