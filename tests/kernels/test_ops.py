"""The product is its definition: value, every gradient, and under every transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sparsity.kernels import backends
from sparsity.kernels.blocks import pack
from sparsity.kernels.layout import Layout, from_mask
from sparsity.kernels.ops import block_sparse_matmul
from sparsity.kernels.reference import block_sparse_matmul as plain
from tests.kernels.cases import CASES, FILLS, Case, layout_of, mask_of_kind, normal

DTYPES = {"float32": 2e-5, "bfloat16": 3e-2}
# The kernel, however small the product.
sparse = functools.partial(block_sparse_matmul, path="sparse")
EVEN = Case((32, 48), (8, 16))


def weighed(product, activation, x, packed, layout, bias, scale, weights):
    """A scalar of the product, and the product."""
    y = product(x, packed, layout, bias=bias, activation=activation, scale=scale)
    return jnp.sum(y.astype(jnp.float32) * weights), y


@functools.cache
def with_gradients(product, activation):
    """(x, packed, layout, bias, scale, weights) -> product and gradients of x, packed, bias, scale."""
    run = functools.partial(weighed, product, activation)

    def both(*args):
        (_, y), gradients = jax.value_and_grad(run, (0, 1, 3, 4), has_aux=True)(*args)
        return (y, *gradients)

    return jax.jit(both)


def agree(got, asked, tolerance):
    """Equal within `tolerance` of the largest entry; finite."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(asked), strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        assert a.shape == b.shape and np.all(np.isfinite(a))
        np.testing.assert_allclose(
            a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max(initial=0))
        )


def arguments(case, fill, dtype, rows=7):
    """Random arguments, with NaN wherever nothing lives."""
    layout = layout_of(case, mask_of_kind(*fill, case.grid))
    seed, (k, n) = fill[1], case.shape
    packed = pack(normal(seed, k, n, dtype=dtype), layout)
    nothing = ~np.asarray(layout.live)
    return (
        normal(seed + 1, rows, k, dtype=dtype),
        jnp.where(nothing[:, None, None], jnp.nan, packed),
        layout,
        normal(seed + 2, n),
        jnp.where(nothing, jnp.nan, normal(seed + 3, case.capacity)),
        normal(seed + 4, rows, n),
    )


# Each case and dtype compiles for seconds: four in the quick suite, all in the slow one.
@settings(max_examples=30)
@given(
    st.sampled_from(
        [
            ("Criteo's 5, ragged", "float32"),
            ("tall blocks, ragged", "float32"),
            ("wide blocks", "bfloat16"),
            ("even", "float32"),
        ]
    ),
    FILLS,
)
def test_the_product_and_its_gradients_are_the_definitions(case, fill):
    check_against_definition(*case, fill)


@pytest.mark.slow
@settings(max_examples=100)
@given(st.sampled_from(sorted(CASES)), st.sampled_from(sorted(DTYPES)), FILLS)
def test_for_every_case_the_product_and_its_gradients_are_the_definitions(name, dtype, fill):
    check_against_definition(name, dtype, fill)


def check_against_definition(name, dtype, fill):
    args = arguments(CASES[name], fill, dtype)
    got, asked = (with_gradients(run, None)(*args) for run in (sparse, plain))
    agree(got, asked, DTYPES[dtype])
    live = np.asarray(args[2].live)
    # Padding gets exact zeros; it held NaN.
    assert not np.any(got[2][~live]) and not np.any(got[4][~live])


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("name", ["even", "Criteo's 5, ragged"])
def test_activations_and_their_gradients_are_the_definitions(name, activation):
    for seed in range(3):
        args = arguments(CASES[name], ("random", seed), jnp.float32)
        got, asked = (with_gradients(run, activation)(*args) for run in (sparse, plain))
        agree(got, asked, DTYPES["float32"])


@pytest.mark.parametrize("rows", [1, 2, 13, 300, 1100])
def test_any_number_of_rows_will_do(rows):
    args = arguments(EVEN, ("random", rows), jnp.float32, rows)
    got, asked = (with_gradients(run, None)(*args) for run in (sparse, plain))
    agree(got, asked, DTYPES["float32"])


def test_no_rows_give_no_rows():
    args = arguments(EVEN, ("random", 0), jnp.float32, 0)
    y, dx, dpacked, *_ = with_gradients(sparse, None)(*args)
    assert y.shape == (0, 48) and dx.shape == (0, 32) and not np.any(dpacked)


def test_leading_axes_of_x_are_rows():
    x, packed, layout, *_ = arguments(EVEN, ("random", 3), jnp.float32, 12)
    y = sparse(x, packed, layout)
    for shape in ((32,), (3, 4, 32), (2, 1, 6, 32)):
        z = sparse(x[0] if shape == (32,) else x.reshape(shape), packed, layout)
        assert z.shape == (*shape[:-1], 48)
        agree(z.reshape(-1, 48), y[: z.size // 48], 1e-6)


def test_new_masks_of_a_capacity_compile_nothing():
    run = jax.jit(functools.partial(weighed, sparse, "relu"))
    step = jax.jit(jax.grad(lambda *args: run(*args)[0], (0, 1)))
    for seed in range(4):
        step(*arguments(EVEN, ("random", seed), jnp.float32))
    assert step._cache_size() == 1


def test_other_dtypes_run_dense_and_right():
    with jax.enable_x64(True):
        x, packed, layout, bias, *_ = arguments(EVEN, ("random", 4), jnp.float64)
        y = sparse(x, packed, layout, bias=bias)
        asked = plain(x, packed, layout, bias=bias)
        assert y.dtype == jnp.float64
        np.testing.assert_allclose(y, asked, rtol=1e-12, atol=1e-12)
    assert "not float64" in backends.backend_of("cpu", layout, jnp.float64)[1]
    assert "no block-sparse kernel for rocm" in backends.backend_of("rocm", layout, jnp.float32)[1]


# ---- Transformations ----


def stack(count=3, seed=0):
    """Inputs, packed weights and layouts of several heads."""
    masks = np.random.default_rng(seed).random((count, *EVEN.grid)) < 0.5
    layouts = jax.vmap(lambda m: from_mask(m, EVEN.shape, EVEN.block, EVEN.capacity))(masks)
    weights = normal(seed, count, *EVEN.shape)
    return normal(seed + 1, count, 16, 32), jax.vmap(pack)(weights, layouts), layouts


def gradients(run, *args):
    """The value of `run` and the gradients of a scalar of it by its first two arguments."""
    scalar = lambda *args: jnp.sum(jnp.sin(run(*args)))
    return jax.jit(run)(*args), jax.jit(jax.grad(scalar, (0, 1)))(*args)


@pytest.mark.parametrize("axes", [(0, 0, 0), (0, None, None), (None, 0, 0), (0, 0, None)])
def test_it_maps_over_stacked_weights(axes):
    given_ = stack()
    first = lambda tree: jax.tree.map(lambda a: a[0], tree)
    args = [a if axis == 0 else first(a) for a, axis in zip(given_, axes, strict=True)]
    got, asked = (gradients(jax.vmap(run, axes), *args) for run in (sparse, plain))
    agree(got, asked, 2e-5)


def test_it_maps_twice():
    x, packed, layouts = stack()
    xs = jnp.stack([x, 2 * x])
    # The outer map shares the weights: the heads' axis is the inner one.
    twice = lambda run: jax.vmap(jax.vmap(run), (0, None, None))
    agree(
        gradients(twice(sparse), xs, packed, layouts),
        gradients(twice(plain), xs, packed, layouts),
        2e-5,
    )


def test_it_scans_and_rematerialises():
    x, packed, layouts = stack()

    def net(run, x, packed):
        @jax.checkpoint
        def layer(x, weights):
            y = run(x, *weights, activation="gelu")
            return y[:, :32], None

        return jax.lax.scan(layer, x, (packed, layouts))[0]

    got, asked = (gradients(functools.partial(net, run), x[0], packed) for run in (sparse, plain))
    agree(got, asked, 2e-5)


@pytest.mark.parametrize("check", [True, False])
def test_it_runs_on_shards(check):
    """Rows over eight devices, the weight on each; the weight's gradient is the sum over them."""
    x, packed, layouts = stack()
    packed, layout = packed[0], jax.tree.map(lambda a: a[0], layouts)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    local = functools.partial(sparse, activation="relu")
    sharded = jax.shard_map(
        local, mesh=mesh, in_specs=(P("data"), P(), P()), out_specs=P("data"), check_vma=check
    )
    asked = functools.partial(plain, activation="relu")
    got = gradients(sharded, x[0], packed, layout)
    agree(got, gradients(asked, x[0], packed, layout), 2e-5)


# ---- Bad input ----


def call(**changes):
    """A product with some arguments exchanged."""
    x, packed, layout, bias, scale, _ = arguments(EVEN, ("random", 0), jnp.float32)
    args = {"x": x, "packed": packed, "layout": layout, "bias": bias, "scale": scale} | changes
    return block_sparse_matmul(**args)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": jnp.ones((4, 31))}, r"\(4, 31\) does not fit a weight of \(32, 48\)"),
        ({"x": jnp.ones(())}, "does not fit a weight"),
        ({"x": jnp.ones((4, 32), jnp.int32)}, "x is int32; a product of blocks takes floating"),
        ({"packed": jnp.ones((13, 8, 16), jnp.int8)}, "packed is int8"),
        ({"packed": jnp.ones((13, 16, 8))}, r"asks for \(13, 8, 16\)"),
        ({"packed": jnp.ones((32, 48))}, r"asks for \(13, 8, 16\)"),
        ({"bias": jnp.ones(47)}, r"the bias has shape \(47,\), the layout asks for \(48,\)"),
        ({"scale": jnp.ones((4, 3))}, r"the scale has shape \(4, 3\), the layout asks for \(13,\)"),
        ({"activation": "tanh"}, "no activation is called 'tanh'; there are: none, relu, gelu"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_words(changes, words):
    with pytest.raises(ValueError, match=words):
        call(**changes)
    assert call().shape == (7, 48)


def test_what_is_no_layout_is_refused_in_words():
    with pytest.raises(TypeError, match="the third argument is a Layout, not ndarray"):
        call(layout=np.ones((4, 3)))
    assert isinstance(arguments(EVEN, ("dead", 0), jnp.float32)[2], Layout)
