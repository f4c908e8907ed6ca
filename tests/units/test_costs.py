"""What the counters of a traced network promise: agreement with brute force."""

from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity.units.costs import (
    actual_sparsity,
    entry_sparsity,
    live,
    macs,
    multiplies,
    parameters,
)
from tests.units.test_published import traced


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def normal(seed, *sizes):
    return jax.random.normal(jax.random.key(seed), sizes)


def test_a_transformer_costs_the_same_stacked_and_unrolled():
    tokens, width, mlp, layers = 64, 64, 128, 4
    apart = traced("vit", (32, 32, 3), classes=10)
    stacked = traced("vit", (32, 32, 3), classes=10, scan_layers=True)
    assert macs(apart) == macs(stacked)
    assert apart.fixed == stacked.fixed == layers * 2 * tokens**2 * width
    a_layer = tokens * (4 * width**2 + 2 * width * mlp)
    ends = tokens * 4 * 4 * 3 * width + width * 10
    assert macs(stacked) == layers * a_layer + ends + stacked.fixed
    assert stacked.per_entry["params/layers/mlp_in/kernel"] == tokens


def test_an_mlp_costs_its_weights():
    def mlp(p, x):
        return jnp.tanh(x @ p["a"]["w"] + p["a"]["b"]) @ p["c"]

    params = {"a": {"w": shape(5, 7), "b": shape(7)}, "c": shape(7, 3)}
    uses = multiplies(mlp, params, shape(1, 5))
    assert uses.per_entry == {"a/w": 1, "a/b": 0, "c": 1}
    assert (macs(uses), parameters(uses), uses.fixed) == (5 * 7 + 7 * 3, 5 * 7 + 7 + 7 * 3, 0)
    assert macs(uses, {"a/w": 11}) == 11 + 21
    assert parameters(uses, {"a/w": 11, "c": 0}) == 11 + 7
    assert multiplies(mlp, params, shape(4, 5), examples=4) == uses


def test_a_dense_layer_on_a_sequence_is_used_at_every_position():
    uses = multiplies(lambda w, x: x @ w, shape(6, 4), shape(1, 9, 6))
    assert uses.per_entry == {"": 9}


CONVOLUTIONS = [
    # image, kernel HWIO, stride, padding, dilation of the kernel, groups
    ((7, 9), (3, 3, 4, 6), (1, 1), "SAME", (1, 1), 1),
    ((7, 9), (3, 2, 4, 6), (2, 2), "SAME", (1, 1), 1),
    ((8, 8), (3, 3, 4, 6), (2, 1), "VALID", (1, 1), 1),
    ((9, 9), (3, 3, 2, 6), (1, 1), "VALID", (2, 2), 2),
    ((6, 5), (1, 1, 4, 3), (3, 2), "VALID", (1, 1), 1),
    ((6, 6), (3, 3, 1, 4), (1, 1), "SAME", (1, 1), 4),
    ((6, 6), (4, 4, 4, 2), (2, 2), ((1, 2), (3, 0)), (1, 1), 1),
]


@pytest.mark.parametrize("image, kernel, stride, padding, dilation, groups", CONVOLUTIONS)
def test_convolutions_count_as_brute_force_does(image, kernel, stride, padding, dilation, groups):
    def convolve(w, x, padding=padding):
        return jax.lax.conv_general_dilated(
            x,
            w,
            stride,
            padding,
            rhs_dilation=dilation,
            feature_group_count=groups,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    # An image of ones, padded with ones: each output is a sum over the weights that made it, and
    # the slope of the sum of outputs in a weight is how often that weight was multiplied.
    spread = [dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1)]
    if isinstance(padding, str):
        pads = jax.lax.padtype_to_pads(image, spread, stride, padding)
    else:
        pads = padding
    ones = jnp.ones(
        (1, *(n + sum(p) for n, p in zip(image, pads, strict=True)), kernel[2] * groups)
    )
    slopes = jax.grad(lambda w: convolve(w, ones, "VALID").sum())(jnp.ones(kernel))
    uses = multiplies(convolve, shape(*kernel), shape(1, *image, kernel[2] * groups))
    np.testing.assert_array_equal(slopes, uses.per_entry[""])
    assert macs(uses) == int(convolve(jnp.ones(kernel), ones, "VALID").sum())


AXIS = st.tuples(*(st.integers(a, b) for a, b in ((7, 12), (1, 3), (1, 3), (1, 2), (0, 2), (0, 2))))


@settings(max_examples=40, deadline=None)
@given(st.lists(AXIS, min_size=1, max_size=3), st.sampled_from([(1, 3, 4), (2, 2, 6), (4, 1, 4)]))
def test_any_convolution_costs_its_windows_times_its_kernel(axes, features):
    image, kernel, stride, dilation, before, after = zip(*axes, strict=True)
    groups, into, out = features

    def convolve(w, x):
        pads = list(zip(before, after, strict=True))
        dims = (f"N{'DHW'[: len(axes)]}C", f"{'DHW'[: len(axes)]}IO", f"NC{'DHW'[: len(axes)]}")
        return jax.lax.conv_general_dilated(
            x,
            w,
            stride,
            pads,
            rhs_dilation=dilation,
            feature_group_count=groups,
            dimension_numbers=dims,
        )

    windows = 1
    for size, taps, step, gap, low, high in axes:
        windows *= len(range(0, low + size + high - gap * (taps - 1), step))
    uses = multiplies(convolve, shape(*kernel, into, out), shape(1, *image, into * groups))
    assert uses.per_entry == {"": windows}


def test_a_transposed_convolution_counts_its_input_positions():
    net = nn.ConvTranspose(6, (3, 3), strides=(2, 2), use_bias=False)
    variables = jax.eval_shape(net.init, jax.random.key(0), shape(1, 5, 4, 2))
    assert multiplies(net.apply, variables, shape(1, 5, 4, 2)).per_entry["params/kernel"] == 20


def layer(w, x):
    return jax.nn.silu(x @ w)


def test_a_scan_over_layers_costs_what_the_unrolled_layers_cost():
    def scanned(p, x):
        return jax.lax.scan(lambda x, w: (layer(w, x), None), x, p["layers"])[0]

    def looped(p, x):
        return jax.lax.fori_loop(0, 5, lambda i, x: layer(p["layers"][i], x), x)

    def unrolled(p, x):
        for w in p["layers"]:
            x = layer(w, x)
        return x

    params = {"layers": shape(5, 8, 8)}
    one = multiplies(unrolled, params, shape(1, 3, 8))
    assert one.per_entry == {"layers": 3}
    assert multiplies(scanned, params, shape(1, 3, 8)) == one
    assert multiplies(looped, params, shape(1, 3, 8)) == one


def test_a_loop_whose_carry_becomes_an_activation_charges_the_products_as_such():
    def network(p, x):  # the carry starts as a weight; from the second turn on it is an activation
        return jax.lax.fori_loop(0, 4, lambda i, state: state * x.sum() @ p["w"], p["start"])

    uses = multiplies(network, {"w": shape(3, 3), "start": shape(2, 3)}, shape(1))
    assert uses.per_entry == {"w": 8, "start": 0}


def test_a_weight_used_twice_adds_up():
    def tied(p, tokens):
        return jnp.take(p["embed"], tokens, axis=0) @ p["w"] @ p["w"] @ p["embed"].T

    params = {"embed": shape(11, 4), "w": shape(4, 4)}
    uses = multiplies(tied, params, jax.ShapeDtypeStruct((1, 6), jnp.int32))
    assert uses.per_entry == {"embed": 6, "w": 12}


def test_attention_products_are_fixed():
    def attention(p, x):
        q, k, v = jnp.moveaxis((x @ p["qkv"]).reshape(1, 7, 3, 2, 4), 2, 0)
        mixed = jax.nn.dot_product_attention(q, k, v)
        return mixed.reshape(1, 7, 8) @ p["out"]

    uses = multiplies(attention, {"qkv": shape(8, 24), "out": shape(8, 8)}, shape(1, 7, 8))
    assert uses.per_entry == {"qkv": 7, "out": 7}
    assert uses.fixed == 2 * 7 * 7 * 8


@jax.custom_vjp
def product(x, w):
    return x @ w


product.defvjp(lambda x, w: (x @ w, (x, w)), lambda r, g: (g @ r[1].T, r[0].T @ g))

WRAPPINGS = {
    "jit": lambda w, x: jax.jit(lambda w: x @ w)(w),
    "remat": lambda w, x: jax.checkpoint(lambda w, x: jax.nn.relu(x @ w))(w, x),
    "custom_vjp": lambda w, x: product(x, w),
    "vmap": lambda w, x: jax.vmap(lambda x: x @ w)(x),
    "einsum": lambda w, x: jnp.einsum("io,ni->on", w, x),
    "bfloat16": lambda w, x: x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16),
    "reshape": lambda w, x: x @ w.reshape(2, 3, 8).transpose(1, 0, 2).reshape(6, 8),
    "slices": lambda w, x: jnp.concatenate([x @ w[:, :3], x @ w[:, 3:]], axis=1),
    "mask": lambda w, x: x @ jnp.where(jnp.eye(6, 8) > 0, w, 0),
    "power": lambda w, x: x @ (w * jnp.abs(w)),
    "norm": lambda w, x: x @ (w / jnp.linalg.norm(w, axis=0)),
    "cond": lambda w, x: jax.lax.cond(x.sum() > 0, lambda x: x @ w, lambda x: -x @ w, x),
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_a_weight_is_found_through(name):
    uses = multiplies(WRAPPINGS[name], shape(6, 8), shape(1, 6))
    assert (uses.per_entry, uses.fixed) == ({"": 1}, 0)


def test_a_scaled_weight_remains_that_weight():
    def gated(p, x):
        return x @ (p["w"] * jnp.kron(jax.nn.softmax(p["logits"]), jnp.ones((2, 2))))

    uses = multiplies(gated, {"w": shape(4, 6), "logits": shape(2, 3)}, shape(1, 4))
    assert uses.per_entry == {"w": 1, "logits": 0}


def test_concatenated_weights_share_what_they_cost():
    def fused(p, x):
        return x @ jnp.concatenate([p["q"], p["kv"]], axis=1)

    uses = multiplies(fused, {"q": shape(4, 6), "kv": shape(4, 2)}, shape(1, 5, 4))
    assert uses.per_entry == {"q": 5, "kv": 5}


def test_constants_are_no_weights():
    constant = jnp.ones((4, 4))
    uses = multiplies(lambda w, x: x @ (constant @ constant) @ w, shape(4, 2), shape(1, 4))
    assert (uses.per_entry, uses.fixed) == ({"": 1}, 16)


def test_learned_queries_charge_the_right_operand():
    def pooled(p, x):
        return jax.nn.softmax(p["queries"] @ p["w"] @ x[0].T) @ x[0]

    uses = multiplies(pooled, {"queries": shape(9, 4), "w": shape(4, 4)}, shape(1, 5, 4))
    assert uses.per_entry == {"queries": 0, "w": 9}
    assert uses.fixed == 2 * 9 * 5 * 4


def loop(w, x):
    return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ w, x)


REFUSED = {
    "'a' and 'b'": lambda p, x: x @ (p["a"] * p["b"]),
    "'while'": lambda p, x: loop(p["a"], x),
    "cond": lambda p, x: jax.lax.cond(x.sum() > 0, lambda x: x @ p["a"], lambda x: x, x),
    "ragged_dot": lambda p, x: jax.lax.ragged_dot(x, p["a"][None], jnp.array([1])),
}


@pytest.mark.parametrize("named", REFUSED)
def test_what_has_no_one_count_is_refused(named):
    with pytest.raises(ValueError, match=named):
        multiplies(REFUSED[named], {"a": shape(3, 3), "b": shape(3, 3)}, shape(1, 3))


def test_a_remainder_over_the_examples_is_an_error():
    with pytest.raises(ValueError, match="one example"):
        multiplies(lambda w, x: x @ w, shape(3, 5), shape(3, 3), examples=2)
    with pytest.raises(ValueError, match="at least 1"):
        multiplies(lambda w, x: x @ w, shape(3, 5), shape(3, 3), examples=0)


def test_part_of_an_unevenly_used_weight_has_no_exact_cost():
    uses = multiplies(lambda p, x: x @ p["w"][:, :2], {"w": shape(3, 4)}, shape(1, 3))
    assert uses.per_entry == {"w": Fraction(1, 2)}
    assert (macs(uses), macs(uses, {"w": 0})) == (6, 0)
    with pytest.raises(ValueError, match="equally often"):
        macs(uses, {"w": 6})


@pytest.mark.parametrize("alive, said", [({"ww": 1}, "'w'"), ({"w": 13}, "12"), ({"w": -1}, "-1")])
def test_live_entries_that_cannot_be_are_errors(alive, said):
    uses = multiplies(lambda p, x: x @ p["w"], {"w": shape(3, 4)}, shape(1, 3))
    for cost in (macs, parameters):
        with pytest.raises(ValueError, match=said):
            cost(uses, alive)
    with pytest.raises(ValueError, match=said):
        actual_sparsity(uses.entries, {path: (n, 12) for path, n in alive.items()})


def test_entries_really_zero_stand_beside_the_actual_sparsity():
    # Rows of 3 + 3 + 1 entries: the ragged unit is dead.
    mask = jnp.repeat(jnp.array([1, 1, 0]), jnp.array([3, 3, 1]), total_repeat_length=7)
    entries = {"w": 14, "dense": 6}
    alive = live({"w": jnp.stack([mask, mask])})
    assert alive == {"w": 12}
    assert actual_sparsity(entries, {"w": (2, 3)}) == Fraction(14, 60)
    assert entry_sparsity(entries, alive) == Fraction(2, 20)
