"""Laws of the gates: mean 1, exactly 1 at the start, the gradient of block.md 1.1, a clip in forward only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.contract import Context, State
from sparsity.families import Pruned, gated
from sparsity.gates import GATES, exponential, hoff, sigmoid, softmax
from sparsity.plan.phases import Kind
from sparsity.units.partition import Group, View, pool

each = pytest.mark.parametrize("name", GATES)
TENTH = jnp.float32(0.1)
attention = jax.jit(softmax().multiplier, static_argnums=1)
clipped = jax.jit(softmax(clip=True).multiplier, static_argnums=1)

logits_of = st.lists(st.floats(-8, 8, width=32), min_size=24, max_size=24).map(
    lambda numbers: jnp.array(numbers).reshape(2, 3, 4)
)


@given(logits_of, st.sampled_from((0, 1, 2)))
def test_attention_has_mean_one_in_each_index(logits, batch):
    a = attention(logits, batch, TENTH)
    axes = tuple(range(batch, 3))
    np.testing.assert_allclose(jnp.mean(a, axis=axes), 1, rtol=1e-5)
    expected = 24 / np.prod([2, 3, 4][:batch], initial=1) * jax.nn.softmax(logits, axis=axes)
    np.testing.assert_allclose(a, expected, rtol=1e-5, atol=1e-7)


# Numbers of units G with G * (1/G) != 1 in float32, and a few others.
@pytest.mark.parametrize("size", (1, 3, 41, 61, 107, 400, 6240))
def test_attention_is_exactly_one_at_its_start_when_compiled(size):
    both = jax.jit(lambda x: [softmax(clip).multiplier(x, 0, TENTH) for clip in (False, True)])
    assert all((a == 1).all() for a in both(jnp.zeros(size)))


def test_attention_is_exactly_one_at_its_start_when_not_compiled():
    assert (softmax().multiplier(jnp.zeros(41), 0, TENTH) == 1).all()


def test_attention_is_exactly_one_for_hundreds_of_sizes():
    """The sizes as one array: row G - 1 holds G equal logits, and nothing else weighs anything."""
    sizes = np.arange(1, 800)
    live = np.arange(800) < sizes[:, None]
    logits = jnp.where(live, 0.0, -jnp.inf)
    # With n columns A is n times the softmax: 1 at equal logits, so here n / G in row G.
    a = jax.jit(lambda x: attention(x, 1, TENTH))(logits)
    size = jnp.asarray(sizes, jnp.float32)[:, None]
    np.testing.assert_array_equal(a, jnp.where(live, jnp.float32(800) / size, 0))


@each
def test_every_gate_is_exactly_one_at_its_start(name):
    gate = GATES[name]()
    start = jnp.full((5, 7), gate.start)
    assert (jax.jit(gate.multiplier, static_argnums=1)(start, 1, TENTH) == 1).all()


def test_gates_are_what_the_paper_names():
    w = jnp.linspace(-3, 3, 13)
    np.testing.assert_allclose(exponential().multiplier(w, 0, TENTH), jnp.exp(w))
    np.testing.assert_allclose(hoff().multiplier(w, 0, TENTH), w)
    np.testing.assert_allclose(sigmoid().multiplier(w, 0, TENTH), 2 / (1 + jnp.exp(-w)), rtol=1e-6)


@each
def test_a_larger_multiplier_ranks_higher(name):
    gate = GATES[name]()
    w = jnp.linspace(-30, 30, 61) if name != "hoff" else jnp.linspace(0, 30, 61)
    assert (jnp.diff(gate.rank(w)) > 0).all()
    assert (jnp.diff(gate.multiplier(w, 0, TENTH)) >= 0).all()


def test_a_hoff_factor_ranks_by_its_size():
    assert hoff().rank(jnp.array([-2.0, 1.0])).tolist() == [2, 1]


@given(logits_of, st.sampled_from((0.1, 0.3, 0.07)))
def test_the_clip_holds_in_forward_and_leaves_the_gradient(logits, density):
    density = jnp.float32(density)
    a, c = attention(logits, 1, density), clipped(logits, 1, density)
    np.testing.assert_array_equal(c, np.clip(a, density, 1 / density))
    np.testing.assert_array_equal(*(slope(f, logits, density) for f in (attention, clipped)))


def slope(multiplier, logits, density):
    weights = jnp.arange(logits.size, dtype=jnp.float32).reshape(logits.shape) - 7
    return jax.grad(lambda x: jnp.sum(weights * multiplier(x, 1, density)))(logits)


def test_clipped_logits_that_tie_in_attention_keep_their_rank():
    logits = jnp.array([0.0, 20.0, 21.0, -20.0, -21.0])
    a = clipped(logits, 0, TENTH)
    assert a[3] == a[4] == TENTH
    assert jnp.argsort(softmax(clip=True).rank(logits)).tolist() == [4, 3, 0, 1, 2]


def test_attention_is_finite_at_any_logits():
    for logits in (jnp.array([1e30, -1e30, 0.0]), jnp.full(3, -1e30), jnp.full(3, 1e30)):
        a, back = jax.vjp(lambda x: attention(x, 0, TENTH), logits)
        assert jnp.isfinite(a).all() and jnp.isfinite(back(jnp.ones(3))[0]).all()


# The gate in its family: a weight of 2 x 3 blocks, stacked twice.

VIEW = View("w", (2, 4, 9), ((0,), (1,), (2,)), (1, 2, 3))
PARTITION = {"w": Group((2, 2, 3), (VIEW,), batch=1)}
COUNTS = {"w": jnp.int32(3)}


def learned(gate, seed=0):
    numbers = np.random.default_rng(seed)
    params = {"w": jnp.asarray(numbers.normal(size=(2, 4, 9)), jnp.float32)}
    gates = {"w": jnp.asarray(numbers.normal(size=(2, 2, 3)), jnp.float32)}
    alive = {"w": jnp.asarray(numbers.permuted(np.arange(12).reshape(2, 6) % 2, axis=1) == 1)}
    masks = {"w": alive["w"].reshape(2, 2, 3)}
    return gated(PARTITION, gate), State(params, gates, Pruned(masks, jnp.zeros(2, jnp.uint32)))


def context(kind):
    return Context(kind, keep=COUNTS, target=COUNTS)


def loss(params):
    return jnp.sum(jnp.sin(params["w"])) + jnp.sum(jnp.square(params["w"]))


def gradients(method, state, kind):
    """dLoss/dL from autodiff, and dLoss/dW_hat."""
    applied = method.apply(state, context(kind)).params
    of_gates = lambda gates: loss(method.apply(state._replace(gates=gates), context(kind)).params)
    return jax.grad(of_gates)(state.gates)["w"], jax.grad(loss)(applied)


@pytest.mark.parametrize("clip", (False, True))
@pytest.mark.parametrize("kind", Kind)
def test_the_gradient_of_the_logits_is_the_derived_one(kind, clip):
    """dLoss/dL_c = A_c (s_c - (1/G) sum_b A_b s_b), s_b = <dLoss/dW_hat_b, W_b> mask_b."""
    method, state = learned(softmax(clip))
    autodiff, of_applied = gradients(method, state, kind)
    s = pool(PARTITION, {"w": of_applied["w"] * state.params["w"]})["w"]
    s = jnp.where(state.memory.masks["w"], s, 0) if kind != Kind.DENSE else s
    a = attention(state.gates["w"], 1, TENTH)
    derived = a * (s - jnp.mean(a * s, axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(autodiff, derived, rtol=2e-5, atol=1e-5)


@each
@pytest.mark.parametrize("kind", Kind)
def test_every_gate_gets_a_gradient_where_it_should(name, kind):
    method, state = learned(GATES[name]())
    slopes, _ = gradients(method, state, kind)
    assert jnp.isfinite(slopes).all()
    alive = state.memory.masks["w"]
    # A dead unit's gate moves nothing, unless it stands in the sum under a softmax.
    moved = jnp.ones_like(alive) if kind == Kind.DENSE or name == "softmax" else alive
    np.testing.assert_array_equal(slopes != 0, moved)


@pytest.mark.parametrize("kind", Kind)
def test_a_clipped_logit_still_gets_a_gradient(kind):
    method, state = learned(softmax(clip=True))
    state = state._replace(gates={"w": state.gates["w"] * 30})
    a = method.apply(state, context(kind)).multipliers["w"]
    assert (a == 0.5).any()
    slopes, _ = gradients(method, state, kind)
    assert jnp.isfinite(slopes).all() and (slopes != 0).any()


def test_the_clip_is_to_the_target_density_whatever_is_kept_now():
    method, state = learned(softmax(clip=True))
    state = state._replace(gates={"w": state.gates["w"] * 30})
    for keep in (6, 4, 3):
        at = Context(Kind.SPARSE, keep={"w": jnp.int32(keep)}, target={"w": jnp.int32(2)})
        a = method.apply(state, at).multipliers["w"]
        np.testing.assert_allclose((a.min(), a.max()), (1 / 3, 3), rtol=1e-6)


@each
def test_stacked_layers_do_not_know_each_other(name):
    method, state = learned(GATES[name]())
    other = jax.tree.map(lambda x: x.at[0].add(1.5), (state.params, state.gates))
    moved = state._replace(params=other[0], gates=other[1])
    a, b = (method.apply(s, context(Kind.SPARSE)).params["w"] for s in (state, moved))
    np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(a[0], b[0])
    masks = [method.update(s, context(Kind.SPARSE), None).memory.masks["w"] for s in (state, moved)]
    np.testing.assert_array_equal(masks[0][1], masks[1][1])
