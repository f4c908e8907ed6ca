"""Convolutions that the kernels of GPUs and TPUs are tried on."""

import jax
import jax.numpy as jnp
import numpy as np

from sparsity.kernels.blocks import pack
from sparsity.kernels.geometry import geometry_of
from sparsity.kernels.layout import Layout
from tests.kernels.cases import Case, layout_of, normal

# image, window, strides, padding, outputs, block.
WINDOWS = {
    "3x3": ((5, 6, 16), (3, 3), (1, 1), "SAME", 40, (16, 32)),
    "3x3 with stride": ((7, 6, 32), (3, 3), (2, 2), "SAME", 16, (16, 16)),
    "valid, unequal strides": ((8, 9, 16), (3, 2), (1, 3), "VALID", 20, (16, 16)),
    "64": ((6, 5, 64), (3, 3), (2, 2), "SAME", 60, (64, 64)),
    "5x3, padded as is said": ((7, 6, 32), (5, 3), (1, 2), ((1, 3), (0, 2)), 16, (32, 16)),
    "1x1 in a frame": ((5, 4, 16), (1, 1), (2, 1), ((3, 0), (1, 2)), 32, (16, 32)),
    "128": ((4, 5, 128), (3, 3), (1, 1), "SAME", 128, (128, 128)),
}


def made(name: str, count: int = 3):
    """Geometry, layout, packed blocks with NaN in padding, images and a gradient of outputs."""
    image, kernel, strides, padding, outputs, block = WINDOWS[name]
    geometry = geometry_of(image, kernel, strides, padding)
    case = Case((geometry.rows, outputs), block)
    mask = np.random.default_rng(1).random(case.grid) < 0.6
    # One row of blocks is dead, if there are several.
    mask[1:2] = False
    layout = layout_of(case, mask)
    packed = pack(normal(0, *case.shape, dtype="bfloat16"), layout)
    packed = jnp.where(layout.live[:, None, None], packed, jnp.nan)
    x = normal(1, count, *image, dtype="bfloat16")
    return geometry, layout, packed, x, normal(2, count, *geometry.out, outputs, dtype="bfloat16")


def zeroed(packed: jax.Array, layout: Layout) -> jax.Array:
    return jnp.where(layout.live[:, None, None], packed, 0)
