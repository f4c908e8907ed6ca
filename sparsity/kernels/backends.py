"""Which module computes what on which platform.

A backend is the module of that name in a platform's folder, with four functions of two-dimensional arrays of
one dtype:

    refusal(layout, dtype) -> str             # why it cannot run, in words; "" where it can. Static only:
                                              # shape, block, capacity
    forward(x, packed, layout, bias, activation) -> y     # x (M, K), y (M, N): act(x @ W + bias)
    dx(dy, packed, layout) -> dx                          # dy (M, N), dx (M, K): dy @ W.T
    dw(x, dy, layout) -> dw                               # (capacity, rows, cols): x.T @ dy at live blocks

and, if it has a kernel for convolutions of W read as (taps * channels, outputs), four more:

    convolution_refusal(layout, dtype, geometry) -> str
    convolve(x, packed, layout, bias, activation, geometry) -> y      # x, y (images, height, width, channels)
    convolve_dx(dy, packed, layout, geometry) -> dx
    convolve_dw(x, dy, layout, geometry) -> dw

bias is (N,) or None, activation a name of `activations`; sums are in float32, results in x's dtype. A
backend never reads packed places at `count` and above and returns 0 there; entries of ragged blocks beyond
the weight are finite zeros when it is called. It is traced where a program is lowered for its platform,
which may be on any machine; only then is its module imported, since Pallas' GPU half takes half a second
and a package that a bare jax lacks. What it refuses, and what no backend serves, is run dense.
"""

import importlib
from types import ModuleType
from typing import Any

import jax.numpy as jnp

from sparsity.kernels import dense
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import Layout

# Whose folder serves a platform, by the names that programs are lowered for.
BACKENDS = {"cpu": "cpu", "tpu": "tpu", "cuda": "gpu"}


def backend_of(
    platform: str, layout: Layout, dtype: Any, geometry: Geometry | None = None
) -> tuple[ModuleType, str]:
    """The backend that can run on a platform ("cpu", "tpu", "cuda"), and why not the platform's own, or ""."""
    if platform not in BACKENDS:
        return dense, f"there is no block-sparse kernel for {platform}"
    try:
        module = importlib.import_module(f"sparsity.kernels.{BACKENDS[platform]}.backend")
    except ModuleNotFoundError as error:
        return (
            dense,
            f"the kernels for {platform} need a package that is not installed: {error.name}",
        )
    if geometry is None:
        reason = module.refusal(layout, jnp.dtype(dtype))
    elif hasattr(module, "convolve"):
        reason = module.convolution_refusal(layout, jnp.dtype(dtype), geometry)
    else:
        reason = f"there is no block-sparse convolution for {platform}"
    return (dense, reason) if reason else (module, "")
