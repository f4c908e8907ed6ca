"""A convolution on the TPU's product is the dense one, interpreted, and lowers to three kernels."""

import functools

import jax
import jax.numpy as jnp
import pytest

from sparsity.kernels import backends, dense
from sparsity.kernels.convolution import block_sparse_convolution
from sparsity.kernels.geometry import geometry_of
from sparsity.kernels.layout import from_mask
from sparsity.kernels.tpu import backend as tpu
from sparsity.kernels.tpu import convolution
from tests.kernels.agreement import custom_calls, near
from tests.kernels.cases import normal
from tests.kernels.test_tpu import raceless
from tests.kernels.windows import WINDOWS, made, zeroed

NAMES = ["3x3", *(pytest.param(n, marks=pytest.mark.slow) for n in list(WINDOWS)[1:])]


@pytest.mark.parametrize("name", NAMES)
def test_the_convolution_is_the_dense_one(name, interpreted):
    geometry, layout, packed, x, _ = made(name)
    args = (layout, normal(3, layout.shape[1]), "relu", geometry)
    near(raceless(tpu.convolve(x, packed, *args)), dense.convolve(x, zeroed(packed, layout), *args))


@pytest.mark.slow
@pytest.mark.parametrize("name", WINDOWS)
def test_its_gradients_are_the_dense_ones(name, interpreted):
    geometry, layout, packed, x, dy = made(name)
    got = raceless(tpu.convolve_dx(dy, packed, layout, geometry))
    near(got, dense.convolve_dx(dy, zeroed(packed, layout), layout, geometry))
    got = raceless(tpu.convolve_dw(x, dy, layout, geometry))
    near(got, dense.convolve_dw(x, dy, layout, geometry))


@pytest.mark.parametrize("name", ["3x3", "64"])
def test_a_training_step_lowers_to_three_kernels_without_an_im2col(name):
    geometry, layout, packed, x, _ = made(name)
    convolve = functools.partial(
        block_sparse_convolution, kernel=geometry.kernel, strides=geometry.strides, path="sparse"
    )

    def loss(x, packed):
        return jnp.sum(convolve(x, packed, layout).astype(jnp.float32))

    text = custom_calls("tpu", jax.value_and_grad(loss, (0, 1)), x, packed)
    assert text.count("tpu_custom_call") == 3
    assert "stablehlo.convolution" not in text


def test_windows_that_do_not_fit_into_vmem_run_dense_and_say_so():
    geometry = geometry_of((8, 8, 8192), (3, 3), (1, 1), "SAME")
    mask = jnp.zeros((geometry.rows // 64, 1), bool)
    layout = from_mask(mask, (geometry.rows, 64), (64, 64), 1)
    module, why = backends.backend_of("tpu", layout, "float32", geometry)
    assert module is dense and "MiB of VMEM" in why
    assert not convolution.excess(layout, 1, geometry)
