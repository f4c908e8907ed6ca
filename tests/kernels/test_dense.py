"""The fall-back sums in float32, and multiplies in the operands' dtype, as a dense layer does."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.kernels import dense
from sparsity.kernels.blocks import pack
from sparsity.kernels.convolution import block_sparse_convolution
from sparsity.kernels.geometry import geometry_of
from sparsity.kernels.layout import from_mask
from sparsity.kernels.ops import block_sparse_matmul
from tests.kernels.agreement import custom_calls

# So many ones add up to another number in bfloat16, and in float16.
MANY = 4096
HALVES = ("bfloat16", "float16")


def whole(shape: tuple[int, int], dtype: str):
    """A weight of ones, all of whose blocks live."""
    layout = from_mask(np.ones((shape[0] // 64, 1)), shape, (64, shape[1]))
    return pack(jnp.ones(shape, dtype), layout), layout


@pytest.mark.parametrize("dtype", HALVES)
def test_products_sum_in_float32(dtype):
    packed, layout = whole((MANY, 8), dtype)
    y = dense.forward(jnp.ones((2, MANY), dtype), packed, layout, None, "none")
    dw = dense.dw(jnp.ones((MANY, MANY), dtype), jnp.ones((MANY, 8), dtype), layout)
    assert y.dtype == dw.dtype == dtype
    assert np.all(np.asarray(y, np.float32) == MANY) and np.all(np.asarray(dw, np.float32) == MANY)


@pytest.mark.parametrize("dtype", HALVES)
def test_convolutions_sum_in_float32(dtype):
    """A window over 1024 channels; its gradients over as many outputs, and over the pixels of 256 images."""
    geometry = geometry_of((4, 4, 1024), (2, 2), (2, 2), "VALID")
    packed, layout = whole((geometry.rows, 8), dtype)
    ones = lambda *shape: jnp.ones(shape, dtype)
    y = dense.convolve(ones(1, 4, 4, 1024), packed, layout, None, "none", geometry)
    assert y.dtype == dtype and np.all(np.asarray(y, np.float32) == 4096)
    geometry = geometry_of((2, 2, 64), (1, 2), (1, 1), "SAME")
    packed, layout = whole((geometry.rows, 2048), dtype)
    dx = dense.convolve_dx(ones(1, 2, 2, 2048), packed, layout, geometry)
    assert dx.dtype == dtype and np.all(np.asarray(dx, np.float32)[:, :, 1] == 4096)
    dw = dense.convolve_dw(ones(1024, 2, 2, 64), ones(1024, 2, 2, 2048), layout, geometry)
    assert dw.dtype == dtype and np.all(np.asarray(dw, np.float32)[0] == 4096)


@pytest.mark.parametrize("platform", ["cuda", "tpu", "cpu"])
def test_a_training_step_multiplies_in_the_dtype_of_its_operands(platform):
    geometry = geometry_of((4, 4, 64), (3, 3), (1, 1), "SAME")
    packed, layout = whole((geometry.rows, 64), "bfloat16")
    small, flat = whole((64, 64), "bfloat16")

    def loss(x, packed, small):
        y = block_sparse_convolution(x, packed, layout, kernel=(3, 3), path="dense")
        y = block_sparse_matmul(y, small, flat, bias=jnp.ones(64), activation="gelu", path="dense")
        return jnp.sum(y.astype(jnp.float32))

    x = jnp.ones((2, 4, 4, 64), jnp.bfloat16)
    text = custom_calls(platform, jax.value_and_grad(loss, (0, 1, 2)), x, packed, small)
    products = re.findall(r"stablehlo\.(?:convolution|dot_general).*", text)
    assert len(products) == 6 and not [p for p in products if "f32" in p]
