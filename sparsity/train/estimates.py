"""Whether a layer's step is expected to be faster on live blocks than masked."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from sparsity.kernels.layout import Layout
from sparsity.kernels.product import backend_of
from sparsity.train.engaged import Way

# Live share from which a step on live blocks is not expected to pay, by platform.
PAYS = {"cpu": 0.35, "tpu": 0.3, "cuda": 0.2}
# Lowering calls every NVIDIA card so.
LOWERED = {"gpu": "cuda"}


class Estimate(NamedTuple):
    """refusal: why there is no kernel, in words, or "". pays: whether it is expected to be faster; why."""

    refusal: str
    pays: bool
    why: str


def of(way: Way, rows: int, platform: str) -> Estimate:
    """The estimate of a layer whose input has `rows` rows (images, of a convolution) a step."""
    name = LOWERED.get(platform, platform)
    static: Any = (None,) * 6
    layout = Layout(way.site.matrix, way.block, way.capacity, *static)
    geometry = way.site.geometry
    if geometry is not None and geometry.kernel == (1, 1) and not any(map(any, geometry.padding)):
        geometry = None
    _, refusal = backend_of(name, layout, jnp.dtype(way.site.dtype), geometry)
    live, total = way.capacity, layout.grid[0] * layout.grid[1]
    pays = live <= PAYS.get(name, 0) * total
    return Estimate(refusal, pays, f"{live} of {total} blocks live ({live / total:.3g})")
