"""SequentialAttention++ against Algorithm 1 of arXiv 2402.17902, and masks that no sharding changes."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from sparsity.contract import Context, Signals, State
from sparsity.methods.magnitude import magnitude
from sparsity.methods.powerprop import powerprop
from sparsity.methods.sequential_attention import sequential_attention
from sparsity.plan import plans
from sparsity.plan.phases import Kind, parse, walk
from sparsity.target import Target, context_of
from sparsity.units.partition import Group, View, scale, tiles

KEY = jax.random.key(0)
VIEW = View("w", (12, 20), ((0,), (1,)), (4, 5))
W = {"w": Group((3, 4), (VIEW,))}
TARGET = Target(W, {"w": Fraction(1, 4)})


def weights(seed=0):
    return {"w": jnp.asarray(np.random.default_rng(seed).normal(size=(12, 20)), jnp.float32)}


def logits(seed=1):
    return {"w": jnp.asarray(np.random.default_rng(seed).normal(size=(3, 4)), jnp.float32)}


def at(kind, keep=3):
    return Context(Kind(kind), keep={"w": jnp.int32(keep)}, target={"w": jnp.int32(3)})


def started(**settings) -> tuple:
    method = sequential_attention(W, **settings)
    return method, method.init(KEY, weights())._replace(gates=logits())


def algorithm_1(w, l, mask):
    """W_hat = W * A * Mask, written out: A is the softmax over all blocks times their number."""
    a = 12 * np.exp(l) / np.exp(l).sum()
    return w * np.kron(a, np.ones((4, 5))) * np.kron(mask, np.ones((4, 5)))


@pytest.mark.parametrize("kind", Kind)
def test_the_attention_acts_in_every_phase_and_the_mask_in_all_but_dense_ones(kind):
    method, state = started()
    state = method.update(state, at("sparse"), Signals())
    mask = state.memory.masks["w"] if kind != Kind.DENSE else np.ones((3, 4))
    expected = algorithm_1(weights()["w"], logits()["w"], mask)
    applied = method.apply(state, at(kind)).params["w"]
    np.testing.assert_allclose(applied, expected, rtol=1e-5)


def test_blocks_are_chosen_by_attention_whatever_their_weights():
    method, state = started()
    heavy = scale(W, {"w": jnp.exp(-5 * logits()["w"])}, weights())
    new = method.update(state._replace(params=heavy), at("sparse"), Signals())
    best = np.sort(logits()["w"].ravel())[-3]
    np.testing.assert_array_equal(method.masks(new, at("sparse"))["w"], logits()["w"] >= best)


def test_blocks_come_back_with_the_weights_they_had():
    method, state = started()
    for keep in (9, 5, 3):
        state = method.update(state, at("sparsify", keep), Signals())
    before = method.apply(method.init(KEY, weights())._replace(gates=logits()), at("dense")).params
    np.testing.assert_array_equal(method.apply(state, at("dense")).params["w"], before["w"])


def test_the_clip_is_an_option_and_to_the_target_density():
    for clip in (False, True):
        method, state = started(clip=clip)
        state = state._replace(gates={"w": logits()["w"] * 20})
        a = method.apply(state, at("sparse", keep=9)).multipliers["w"]
        assert (a.min() == 1 / 4 and a.max() == 4) == clip


def test_without_clip_the_attention_can_outgrow_any_bound():
    method, state = started()
    state = state._replace(gates={"w": jnp.zeros((3, 4)).at[1, 1].set(50)})
    a = method.apply(state, at("sparse")).multipliers["w"]
    np.testing.assert_allclose(a[1, 1], 12)


def test_the_logits_start_at_zero_or_spread_around_it():
    params = weights()
    assert (sequential_attention(W).init(KEY, params).gates["w"] == 0).all()
    drawn = sequential_attention(W, start_spread=1e-5).init(KEY, params).gates["w"]
    assert (drawn != 0).all() and (jnp.abs(drawn) < 1e-4).all()


def test_a_whole_plan_tightens_and_frees_the_mask_and_ends_at_the_target():
    """Algorithm 1's cycles with logits that walk at random: counts at each tick, masks of those before."""
    method, state = started()
    plan = parse(
        plans.sequential_attention(cycles=2, sparsify="10%", sparse="10%", dense="10%"), **RUN
    )
    update, numbers, seen = jax.jit(method.update), np.random.default_rng(0), []
    for tick in walk(plan):
        context = context_of(TARGET, plan[tick.index], tick.share, tick.regrow)
        state = state._replace(
            gates={"w": state.gates["w"] + numbers.normal(size=(3, 4)).astype("f")}
        )
        old = state.memory.masks["w"]
        if tick.select:
            state = update(state, context, Signals())
        alive = state.memory.masks["w"]
        if tick.select:
            assert int(alive.sum()) == context.keep["w"]
        else:
            np.testing.assert_array_equal(old, alive)
        seen.append((str(plan[tick.index].kind), int(alive.sum())))
    kinds = [kind for kind, _ in seen]
    assert seen[-1] == ("finetune", 3) and kinds.count("dense") == 3
    assert {count for kind, count in seen if kind == "sparse"} == {3}
    assert max(count for kind, count in seen if kind == "sparsify") > 3


RUN = {"steps": 300, "steps_per_epoch": 10}


# Sharded: small integers, so that every sum is exact in whatever order the devices add.

STACKED = {"w": Group((2, 5, 3), (View("w", (2, 40, 24), ((0,), (1,), (2,)), (1, 8, 9)),), (), 1)}
MATRIX = {"w": Group((8, 5), (View("w", (64, 40), ((0,), (1,)), (8, 8)),))}
CONV = {"w": Group((9, 4), (View("w", (3, 3, 8, 16), ((0, 1, 2), (3,)), (8, 4)),))}
# Blocks of 8 rows on shards of 8, of 5 (boundaries cut blocks), on columns, on both.
SHARDINGS = {
    "rows": (MATRIX, P("x", None)),
    "columns that cut blocks": (MATRIX, P(None, "x")),
    "both": (MATRIX, P("y", "z")),
    "convolution": (CONV, P(None, None, None, "x")),
    "convolution, inner": (CONV, P(None, None, "x", None)),
    "stacked layers": (STACKED, P("y", "z", None)),
    "stacked, ragged": (STACKED, P(None, None, "x")),
}
METHODS = {"magnitude": magnitude, "sequential_attention": sequential_attention}
# Logits are not sharded, whatever the weights are: fewer cases say all.
CASES = [("magnitude", where) for where in SHARDINGS]
CASES += [("sequential_attention", where) for where in ("both", "convolution, inner")]
both_kinds = pytest.mark.parametrize(
    "kind", (AxisType.Auto, AxisType.Explicit), ids=("auto", "explicit")
)


def mesh(kind: AxisType, spec: P):
    names = [name for name in spec if name is not None]
    shape = (8,) if names == ["x"] else (2, 4)
    return jax.make_mesh(shape, tuple(names), axis_types=(kind,) * len(names))


def integers(shape, top):
    """Whole numbers with many ties."""
    return jnp.asarray(np.random.default_rng(7).integers(-top, top + 1, size=shape), jnp.float32)


@both_kinds
@pytest.mark.parametrize(("name", "where"), CASES)
def test_masks_are_the_same_on_one_device_and_on_eight(name, where, kind):
    partition, spec = SHARDINGS[where]
    group = partition["w"]
    assert group.grid == tiles(group.gated[0])
    method, keep = METHODS[name](partition), {"w": jnp.int32(group.size // 3)}
    context = Context(Kind.SPARSE, keep=keep, target=keep)
    params = {"w": integers(group.gated[0].shape, 2)}

    @jax.jit
    def run(params):
        state = method.init(KEY, params)
        if state.gates:
            state = State(params, {"w": integers(group.grid, 3)}, state.memory)
        state = method.update(state, context, Signals())
        # Twice: the masks of the first time are what the second starts from.
        state = method.update(state, context, Signals())
        return method.masks(state, context)["w"], method.apply(state, context).params["w"]

    alone, alone_applied = run(params)
    assert int(alone.sum()) == group.size // 3 * group.indices
    devices = mesh(kind, spec)
    with jax.set_mesh(devices):
        placed = jax.device_put(params["w"], NamedSharding(devices, spec))
        masks, applied = run({"w": placed})
        assert len(applied.sharding.device_set) == 8
    np.testing.assert_array_equal(masks, alone)
    np.testing.assert_allclose(applied, alone_applied, rtol=1e-6)


@both_kinds
@pytest.mark.parametrize("make", (sequential_attention, powerprop))
def test_gradients_are_the_same_on_one_device_and_on_eight(make, kind):
    spec, method = SHARDINGS["both"][1], make(MATRIX)
    keep = {"w": jnp.int32(13)}
    context = Context(Kind.SPARSE, keep=keep, target=keep)

    @jax.jit
    def slopes(params):
        state = method.init(KEY, params)
        state = method.update(state, context, Signals())

        def loss(trained):
            now = state._replace(params=trained[0], gates=trained[1])
            return jnp.sum(jnp.square(method.apply(now, context).params["w"]))

        return jax.grad(loss)((state.params, state.gates))

    params = {"w": integers((64, 40), 2)}
    alone = slopes(params)
    devices = mesh(kind, spec)
    with jax.set_mesh(devices):
        sharded = slopes({"w": jax.device_put(params["w"], NamedSharding(devices, spec))})
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
    jax.tree.map(near, alone, sharded)
