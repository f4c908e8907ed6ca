"""A convolution on the GPU's product is XLA's, and what every tap reads of flattened images is its window."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.kernels import backends, dense
from sparsity.kernels.convolution import block_sparse_convolution
from sparsity.kernels.geometry import geometry_of
from sparsity.kernels.gpu import backend as gpu
from tests.kernels.agreement import custom_calls, near
from tests.kernels.cases import Case, layout_of, normal
from tests.kernels.races import no_race
from tests.kernels.test_gpu import ONE
from tests.kernels.windows import WINDOWS, made, zeroed

NAMES = ["3x3", *(pytest.param(n, marks=pytest.mark.slow) for n in list(WINDOWS)[1:])]


@pytest.mark.parametrize("name", NAMES)
def test_the_convolution_is_the_dense_one(name):
    geometry, layout, packed, x, _ = made(name)
    args = (layout, normal(3, layout.shape[1]), "relu", geometry)
    with no_race():
        got = gpu.convolve(x, packed, *args, launch=ONE)
    near(got, dense.convolve(x, zeroed(packed, layout), *args))


@pytest.mark.parametrize("name", NAMES)
def test_its_gradients_are_the_dense_ones(name):
    geometry, layout, packed, x, dy = made(name)
    with no_race():
        got = gpu.convolve_dx(dy, packed, layout, geometry, launch=ONE)
    near(got, dense.convolve_dx(dy, zeroed(packed, layout), layout, geometry))
    with no_race():
        got = gpu.convolve_dw(x, dy, layout, geometry, launch=ONE)
    near(got, dense.convolve_dw(x, dy, layout, geometry))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"), [("3x3", 130), ("64", 1), ("64", 40), ("64", 60), ("64", 70)]
)
def test_any_number_of_images_is_the_dense_convolution(name, count):
    """A group's tile is one piece, two or four; the last ones are not full."""
    geometry, layout, packed, x, dy = made(name, count)
    live, args = zeroed(packed, layout), (layout, None, "none", geometry)
    with no_race():
        got = gpu.convolve(x, packed, *args, launch=ONE)
    near(got, dense.convolve(x, live, *args))
    with no_race():
        got = gpu.convolve_dx(dy, packed, layout, geometry, launch=ONE)
    near(got, dense.convolve_dx(dy, live, layout, geometry))
    with no_race():
        got = gpu.convolve_dw(x, dy, layout, geometry, launch=ONE)
    near(got, dense.convolve_dw(x, dy, layout, geometry))


@pytest.mark.parametrize("name", ["3x3", "64"])
def test_a_training_step_lowers_to_three_kernels_without_an_im2col(name):
    geometry, layout, packed, x, _ = made(name)
    convolve = functools.partial(
        block_sparse_convolution, kernel=geometry.kernel, strides=geometry.strides, path="sparse"
    )

    def loss(x, packed):
        return jnp.sum(convolve(x, packed, layout).astype(jnp.float32))

    text = custom_calls("cuda", jax.value_and_grad(loss, (0, 1)), x, packed)
    assert text.count("stablehlo.custom_call @mosaic_gpu") == 3
    assert "stablehlo.convolution" not in text


def test_blocks_over_several_taps_run_dense_and_say_so():
    geometry = geometry_of((6, 6, 24), (3, 3), (1, 1), "SAME")
    case = Case((geometry.rows, 32), (16, 16))
    layout = layout_of(case, np.ones(case.grid, bool))
    module, why = backends.backend_of("cuda", layout, "bfloat16", geometry)
    assert module is dense and "blocks of 16 rows do not divide the 24 channels" in why
