"""The contract that every method keeps, whatever it does: one table, and every pair of the grid."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.contract import Context, Method, Signals
from sparsity.methods.grid import MASKS, grid, refusal
from sparsity.methods.magnitude import magnitude
from sparsity.methods.powerprop import powerprop
from sparsity.methods.sequential_attention import sequential_attention
from sparsity.plan.phases import Kind
from sparsity.units.blocks import Rule, blocks, partition_of
from sparsity.units.partition import leaves, scale, spread
from sparsity.units.scores import SCORES
from tests.methods.samples import (
    DENSITIES,
    GLOBAL,
    METHODS,
    PARTITION,
    PRUNES,
    ROOTS,
    compiled,
    context,
    equal,
    keep,
    signals,
    tree,
)

each = pytest.mark.parametrize("name", METHODS)
pruning = pytest.mark.parametrize("name", PRUNES)
KEY = jax.random.key(0)


def started(name: str, dtype=jnp.float32):
    return compiled(name)[0](KEY, tree(dtype=dtype))


def pruned(name: str, share: str = "1"):
    state = started(name)
    return compiled(name)[2](state, context(share=share), signals())


@each
def test_at_its_start_the_wrapped_network_is_the_bare_one(name):
    bare = tree()
    applied = compiled(name)[1](started(name), context("dense", "0"))
    if name not in ROOTS:
        assert equal(applied, bare)
        return
    for path, leaf in leaves(applied).items():
        before = leaves(bare)[path]
        np.testing.assert_allclose(leaf, before, rtol=2e-6)
        assert path in DENSITIES or equal(leaf, before)


@each
def test_at_its_start_every_unit_lives(name):
    masks = compiled(name)[3](started(name), context())
    assert all(mask.all() for mask in masks.values())


def assert_counted(name: str, masks, share: str):
    """Masks are bool, of the grids' shapes, and keep exactly what was asked."""
    asked = keep(share)
    for path, group in PARTITION.items():
        assert masks[path].shape == group.grid and masks[path].dtype == jnp.bool_
        alive = masks[path].sum(axis=tuple(range(group.batch, masks[path].ndim)))
        if name in GLOBAL:
            assert (alive >= 1).all()
        else:
            np.testing.assert_array_equal(alive, asked[path])
    total = sum(asked[path] * group.indices for path, group in PARTITION.items())
    assert sum(int(mask.sum()) for mask in masks.values()) == total


@pruning
def test_masks_keep_exact_counts_and_compile_once(name):
    init, _, update, masks, traces = compiled(name)
    state = init(KEY, tree())
    for step, share in enumerate(("0.2", "0.55", "0.9", "1", "0.31", "0")):
        state = update(state, context(share=share), signals(step))
        assert_counted(name, masks(state, context(share=share)), share)
    # The counts are data: whatever they are, a verb is traced once, in the whole test session.
    assert (traces["update"], traces["masks"]) == (1, 1)


@pruning
def test_an_update_changes_no_parameter_and_no_gate(name):
    state, new = started(name), pruned(name)
    assert equal(state.params, new.params) and equal(state.gates, new.gates)
    assert not equal(state.memory, new.memory)


@pytest.mark.parametrize(
    "name", ["magnitude", "sequential attention", "sigmoid with fisher", "powerprop by block, 1.5"]
)
def test_masks_and_scales_that_are_left_to_products_come_to_what_is_applied(name):
    state, at = pruned(name), context()

    @jax.jit
    def spread_out(state, masks):
        applied = METHODS[name].apply(state, dataclasses.replace(at, unspread=True))
        units = {p: jnp.where(m, applied.scales.get(p, 1.0), 0.0) for p, m in masks.items()}
        return scale(PARTITION, units, applied.params)

    mine = leaves(spread_out(state, compiled(name)[3](state, at)))
    for path, leaf in leaves(compiled(name)[1](state, at)).items():
        np.testing.assert_allclose(mine[path], leaf, rtol=1e-6, err_msg=path)


@pruning
def test_dead_units_are_zero_and_the_living_are_as_they_were(name):
    state, at = pruned(name), context()
    apply = compiled(name)[1]
    masks = compiled(name)[3](state, at)
    masked, free = apply(state, at), apply(state, context("dense", "0"))
    dead = spread(PARTITION, {path: ~mask for path, mask in masks.items()}, masked)
    for path, leaf in leaves(masked).items():
        expected = np.where(dead.get(path, False), 0, leaves(free)[path])
        np.testing.assert_array_equal(leaf, expected)


@pruning
def test_where_nothing_may_regrow_masks_only_shrink(name):
    init, _, update, masks, _ = compiled(name)
    state, alive = init(KEY, tree()), None
    for step, share in enumerate(("0.3", "0.7", "0.7", "1")):
        # Other weights, gates and gradients at each tick would choose other units.
        moved = jax.tree.map(lambda g, n=step: g + noise(g, n), (state.params, state.gates))
        state = state._replace(params=moved[0], gates=moved[1])
        state = update(state, context(share=share, regrow=False), signals(step))
        new = masks(state, context(share=share))
        assert alive is None or all((new[p] <= alive[p]).all() for p in new)
        assert_counted(name, new, share)
        alive = new


@pytest.mark.parametrize("name", [name for name in PRUNES if name != "random"])
def test_where_units_may_regrow_they_do(name):
    init, _, update, masks, _ = compiled(name)
    state = update(init(KEY, tree()), context(), signals())
    old = masks(state, context())
    moved = jax.tree.map(lambda g: g + 3 * noise(g, 9), (state.params, state.gates))
    state = state._replace(params=moved[0], gates=moved[1])
    new = masks(update(state, context(), signals(7)), context())
    assert any((new[path] & ~old[path]).any() for path in new)


def noise(like, seed: int):
    return jnp.asarray(np.random.default_rng(seed).normal(size=like.shape), like.dtype)


# The grid: every pair of a mask and a score is refused in words, or keeps the same laws.

SMALL = {"params": {"a": {"kernel": (10, 9)}, "b": {"kernel": (2, 8, 7)}, "c": {"bias": (5,)}}}
SMALL_PARTITION = partition_of(
    blocks(
        jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s, jnp.float32),
            SMALL,
            is_leaf=lambda x: isinstance(x, tuple),
        ),
        (Rule("params/a/*", (4, 4)), Rule("params/b/*", (4, 4), batch=(0,))),
        density="0.5",
        at_least=2,
    )
)
# Each pair of the grid works on the stacked layer, with the other parameters dense beside it.
STACKED = {"params/b/kernel": SMALL_PARTITION["params/b/kernel"]}
SMALL_KEEP = {"params/a/kernel": 4, "params/b/kernel": 2}


def small(seed: int, change=lambda x: x):
    numbers = np.random.default_rng(seed)
    draw = lambda shape: jnp.asarray(change(numbers.normal(size=shape)), jnp.float32)
    return jax.tree.map(draw, SMALL, is_leaf=lambda x: isinstance(x, tuple))


def small_context(kind: Kind) -> Context:
    counts = jax.tree.map(jnp.int32, SMALL_KEEP)
    return Context(kind, 0.5, counts, counts, jnp.bool_(True))


def objective(method: Method, state, at: Context):
    """A toy problem on any tree: half the squared distance of the applied parameters to a target."""
    target = small(8)

    def loss(trained):
        now = state._replace(params=trained[0], gates=trained[1])
        applied = method.apply(now, at).params
        far = jax.tree.map(lambda a, t: jnp.sum(jnp.square(a - t)) / 2, applied, target)
        return sum(jax.tree.leaves(far)) + method.penalty(now, at, Signals())

    return jax.value_and_grad(loss)


def descended(method: Method, state, at: Context, steps: int, rate: float = 0.01) -> list[float]:
    """The losses of a few SGD steps, whose gradients must be finite."""
    loss_and_grads, trained = objective(method, state, at), (state.params, state.gates)
    losses = []
    for _ in range(steps):
        loss, grads = loss_and_grads(trained)
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
        losses.append(float(loss))
        trained = jax.tree.map(lambda w, g: w - rate * g, trained, grads)
    return losses


def assert_works(method: Method, units: int, per_group: bool = True):
    bare = small(0)
    state = method.init(KEY, bare)
    applied = method.apply(state, small_context(Kind.DENSE)).params
    for a, b in zip(jax.tree.leaves(applied), jax.tree.leaves(bare), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6)
    grads = Signals(small(1), small(2, np.square))
    state = jax.jit(method.update)(state, small_context(Kind.SPARSE), grads)
    masks = method.masks(state, small_context(Kind.SPARSE))
    assert sum(int(mask.sum()) for mask in masks.values()) == units
    if per_group:
        for path, mask in masks.items():
            alive = mask.sum(axis=tuple(range(SMALL_PARTITION[path].batch, mask.ndim)))
            assert (alive == SMALL_KEEP[path]).all()
    for kind in Kind:
        # Masks act alike in all phases but the dense ones: a step is enough for two of them.
        losses = descended(method, state, small_context(kind), STEPS[kind])
        assert all(before > after for before, after in itertools.pairwise(losses))


STEPS = {Kind.DENSE: 2, Kind.SPARSIFY: 1, Kind.SPARSE: 3, Kind.FINETUNE: 1}


PAIRS = list(itertools.product(MASKS, (*SCORES, "attention")))


@pytest.mark.parametrize(("mask", "score"), PAIRS, ids=lambda part: part)
def test_each_pair_of_the_grid_works_or_is_refused_in_words(mask, score):
    reason = refusal(mask, score, "per_group", False, "none")
    if reason:
        with pytest.raises(ValueError, match=reason):
            grid(STACKED, mask=mask, score=score)
    else:
        assert_works(grid(STACKED, mask=mask, score=score), units=2 * 2)


OPTIONS = [
    {"mask": "softmax", "score": "attention", "clip": True},
    {"mask": "softmax", "score": "l2", "clip": True, "select": "globally"},
    {"mask": "exponential", "score": "attention", "select": "globally"},
    {"mask": "none", "score": "fisher", "select": "globally", "batches": 4},
    {
        "mask": "block_powerprop",
        "score": "saliency",
        "alpha": 1.5,
        "select": "globally",
        "floor": 2,
    },
    {"mask": "powerprop", "score": "random", "alpha": 3.0},
    {"mask": "hoff", "score": "attention", "mask_penalty": "l2", "strength": 0.01},
    {"mask": "hoff", "score": "l2", "mask_penalty": "l1", "strength": 0.01},
    {"mask": "sigmoid", "score": "attention", "mask_penalty": "l1", "strength": 0.01},
    {"mask": "softmax", "score": "attention", "mask_penalty": "l2", "strength": 0.01},
    {"mask": "exponential", "score": "max", "mask_penalty": "l2", "strength": 0.01},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(map(str, o.values())))
def test_the_options_of_the_grid_combine(options):
    if "select" in options:
        assert_works(grid(SMALL_PARTITION, **options), units=4 + 2 * 2, per_group=False)
    else:
        assert_works(grid(STACKED, **options), units=2 * 2)


HALVED = {
    "magnitude": magnitude(STACKED, score="fisher"),
    "powerprop by block": powerprop(STACKED),
    "powerprop by weight": powerprop(STACKED, form="weight", alpha=3.0),
    "sequential attention": sequential_attention(STACKED, clip=True),
}


@pytest.mark.parametrize("name", HALVED)
def test_in_bfloat16_types_stay_and_counts_are_exact(name):
    method, low = HALVED[name], lambda t: jax.tree.map(lambda x: x.astype(jnp.bfloat16), t)
    bare, grads = low(small(0)), low(Signals(small(1), small(2, np.square)))
    state = method.init(KEY, bare)
    applied = method.apply(state, small_context(Kind.DENSE)).params
    assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves((applied, state.params)))
    if "powerprop" in name:
        # phi keeps 8 bits, and its cube has three times its error.
        near = lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-5)
        jax.tree.map(near, *jax.tree.map(lambda x: x.astype(jnp.float32), (applied, bare)))
    else:
        assert equal(applied, bare)
    state = jax.jit(method.update)(state, small_context(Kind.SPARSE), grads)
    masks = method.masks(state, small_context(Kind.SPARSE))
    assert masks["params/b/kernel"].sum(axis=(1, 2)).tolist() == [2, 2]


def test_a_method_scales_units_by_what_it_reports():
    """multipliers of Applied are what stands in the applied parameters, before the mask."""
    method = grid(STACKED, mask="softmax", score="attention")
    state = method.init(KEY, small(0))
    state = state._replace(gates=jax.tree.map(lambda g: g + noise(g, 3), state.gates))
    applied = method.apply(state, small_context(Kind.DENSE))
    again = scale(STACKED, applied.multipliers, state.params)
    assert equal(applied.params, again)
