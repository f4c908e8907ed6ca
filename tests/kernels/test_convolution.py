"""A block-sparse convolution is XLA's convolution with the unpacked weight, and so are its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sparsity.kernels import backends, reference
from sparsity.kernels.blocks import inside, pack, unpack
from sparsity.kernels.convolution import block_sparse_convolution
from sparsity.kernels.geometry import geometry_of
from tests.kernels.cases import KINDS, Case, layout_of, mask_of_kind, normal

# image, window, strides, padding, outputs, block.
WINDOWS = {
    "3x3": ((6, 7, 8), (3, 3), (1, 1), "SAME", 20, (8, 8)),
    "3x3 with stride": ((9, 8, 16), (3, 3), (2, 2), "SAME", 16, (8, 16)),
    "padded as is said": ((9, 8, 8), (3, 3), (2, 2), ((1, 1), (1, 1)), 16, (8, 8)),
    "1x1 in a frame": ((4, 4, 8), (1, 1), (1, 1), ((1, 0), (0, 2)), 8, (8, 8)),
    "valid, unequal strides": ((8, 9, 6), (3, 2), (1, 3), "VALID", 10, (3, 5)),
    "5x1": ((7, 4, 4), (5, 1), (2, 1), "VALID", 8, (2, 8)),
    "1x1 with stride": ((7, 6, 24), (1, 1), (2, 2), "SAME", 16, (16, 16)),
    "ragged outputs": ((5, 5, 32), (3, 3), (1, 1), "SAME", 33, (16, 32)),
    "a block over several taps": ((6, 6, 5), (3, 3), (1, 1), "SAME", 12, (8, 4)),
}


def sparse(window, x, packed, layout, bias):
    _, kernel, strides, padding, *_ = window
    return block_sparse_convolution(
        x,
        packed,
        layout,
        kernel=kernel,
        strides=strides,
        padding=padding,
        bias=bias,
        path="sparse",
    )


def dense(window, x, packed, layout, bias):
    """What it means: lax's convolution with the unpacked weight, in float32."""
    image, kernel, strides, padding, outputs, _ = window
    blocks = jnp.where(inside(layout), packed, 0).astype(jnp.float32)
    w = unpack(blocks, layout).reshape(*kernel, image[2], outputs)
    numbers = ("NHWC", "HWIO", "NHWC")
    wide = x.astype(jnp.float32)
    return lax.conv_general_dilated(wide, w, strides, padding, dimension_numbers=numbers) + bias


@functools.cache
def with_gradients(run, name):
    """The convolution and its gradients of x, packed and bias."""

    def scalar(x, packed, layout, bias, weights):
        y = run(WINDOWS[name], x, packed, layout, bias)
        return jnp.sum(y.astype(jnp.float32) * weights), y

    def both(*args):
        (_, y), gradients = jax.value_and_grad(scalar, (0, 1, 3), has_aux=True)(*args)
        return (y, *gradients)

    return jax.jit(both)


# In bfloat16 one window in the quick suite: each compiles for seconds.
@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        *((name, "float32", 2e-5) for name in WINDOWS),
        ("3x3 with stride", "bfloat16", 3e-2),
        *(
            pytest.param(name, "bfloat16", 3e-2, marks=pytest.mark.slow)
            for name in WINDOWS
            if name != "3x3 with stride"
        ),
    ],
)
def test_it_is_the_convolution_and_so_are_its_gradients(name, dtype, tolerance):
    image, kernel, strides, padding, outputs, block = WINDOWS[name]
    geometry = geometry_of(image, kernel, strides, padding)
    case = Case((geometry.rows, outputs), block)
    for seed, kind in enumerate(KINDS):
        layout = layout_of(case, mask_of_kind(kind, seed, case.grid))
        packed = pack(normal(seed, *case.shape, dtype=dtype), layout)
        packed = jnp.where(layout.live[:, None, None], packed, jnp.nan)
        x, bias = normal(seed + 1, 2, *image, dtype=dtype), normal(seed + 2, outputs)
        weights = normal(seed + 3, 2, *geometry.out, outputs)
        args = (x, packed, layout, bias, weights)
        for got, asked in zip(
            with_gradients(sparse, name)(*args), with_gradients(dense, name)(*args), strict=True
        ):
            got, asked = np.asarray(got, np.float32), np.asarray(asked, np.float32)
            bound = tolerance * max(1.0, np.abs(asked).max(initial=0))
            np.testing.assert_allclose(got, asked, rtol=0, atol=bound)


def test_a_block_over_several_taps_runs_dense_and_says_so():
    image, kernel, strides, padding, outputs, block = WINDOWS["a block over several taps"]
    geometry = geometry_of(image, kernel, strides, padding)
    layout = layout_of(Case((geometry.rows, outputs), block), np.ones((6, 3), bool))
    module, reason = backends.backend_of("cpu", layout, jnp.float32, geometry)
    assert module.__name__.endswith("dense")
    assert "blocks of 8 rows do not divide the 5 channels" in reason


def test_it_maps_over_stacked_weights_and_takes_any_leading_axes():
    case = Case((72, 16), (8, 8))
    masks = [mask_of_kind("random", seed, case.grid) for seed in range(3)]
    layouts = jax.tree.map(lambda *a: jnp.stack(a), *(layout_of(case, m) for m in masks))
    packed = jax.vmap(pack)(normal(0, 3, *case.shape), layouts)
    x = normal(1, 3, 2, 2, 5, 6, 8)
    one = functools.partial(
        block_sparse_convolution, kernel=(3, 3), activation="relu", path="sparse"
    )
    y = jax.jit(jax.vmap(one))(x, packed, layouts)
    for i in range(3):
        layout = jax.tree.map(lambda a, i=i: a[i], layouts)
        np.testing.assert_allclose(y[i], one(x[i], packed[i], layout), atol=1e-6)


def test_a_window_of_one_pixel_is_the_matmul():
    case = Case((24, 16), (8, 8))
    layout = layout_of(case, mask_of_kind("random", 1, case.grid))
    packed, x = pack(normal(0, *case.shape), layout), normal(1, 2, 5, 6, 24)
    y = block_sparse_convolution(x, packed, layout, kernel=(1, 1))
    np.testing.assert_allclose(y, reference.block_sparse_matmul(x, packed, layout), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kernel": (3, 2)}, r"a window of \(3, 2\) over 8 channels has 48 weights.*the layout 72"),
        ({"kernel": 3}, "kernel is two positive integers, not 3"),
        ({"strides": (0, 1)}, "strides is two positive integers"),
        ({"padding": "CIRCULAR"}, "'SAME' or 'VALID', not 'CIRCULAR'"),
        ({"x": jnp.ones((6, 8))}, r"is \(images, height, width, channels\), not \(6, 8\)"),
        ({"x": jnp.ones((1, 2, 9, 8)), "padding": "VALID"}, "does not fit into an image"),
        ({"bias": jnp.ones(8)}, r"the bias has shape \(8,\)"),
    ],
)
def test_convolutions_that_cannot_be_are_refused_in_words(changes, words):
    case = Case((72, 16), (8, 8))
    layout = layout_of(case, np.ones(case.grid, bool))
    given = {"x": jnp.ones((1, 5, 6, 8)), "kernel": (3, 3)}
    with pytest.raises(ValueError, match=words):
        block_sparse_convolution(packed=jnp.ones((19, 8, 8)), layout=layout, **(given | changes))
    y = block_sparse_convolution(packed=jnp.ones((19, 8, 8)), layout=layout, **given)
    assert y.shape == (1, 5, 6, 16)
