"""The differentiable product over the backends: one custom_vjp for matrices and convolutions.

A backend is a module with four functions of two-dimensional arrays of one dtype:

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
the weight are finite zeros when it is called. It is traced on every platform, so its module must import
on a bare jax, and lowered on its own only. What it refuses, and what no backend serves, is run dense.
"""

import functools
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from sparsity.kernels import cpu, dense, gpu, tpu
from sparsity.kernels.activations import ACTIVATIONS, before
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import Layout
from sparsity.kernels.manual import vary_alike

# What serves a platform, by lax.platform_dependent's names.
BACKENDS: dict[str, ModuleType] = {"cpu": cpu, "tpu": tpu, "cuda": gpu}
CONVOLUTIONS = {"forward": "convolve", "dx": "convolve_dx", "dw": "convolve_dw"}


def product(
    x: jax.Array,
    packed: jax.Array,
    bias: jax.Array | None,
    layout: Layout,
    activation: str,
    geometry: Geometry | None = None,
) -> jax.Array:
    """activation(x W + bias) on whichever backend serves the platform; differentiable in x, packed, bias.

    x is (M, K), or images (count, height, width, channels) with a geometry; all arguments fit already.
    """
    return _product(*vary_alike((x, packed, bias, layout)), activation, geometry)


def backend_of(
    platform: str, layout: Layout, dtype: Any, geometry: Geometry | None = None
) -> tuple[ModuleType, str]:
    """The backend that runs on a platform ("cpu", "tpu", "cuda"), and why not the platform's own, or ""."""
    if platform not in BACKENDS:
        return dense, f"there is no block-sparse kernel for {platform}"
    module = BACKENDS[platform]
    if geometry is None:
        reason = module.refusal(layout, jnp.dtype(dtype))
    elif hasattr(module, "convolve"):
        reason = module.convolution_refusal(layout, jnp.dtype(dtype), geometry)
    else:
        reason = f"there is no block-sparse convolution for {platform}"
    return (dense, reason) if reason else (module, "")


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _product(x, packed, bias, layout, activation, geometry):
    return _on_platform("forward", geometry, layout, x, packed, layout, bias, activation=activation)


def _product_fwd(x, packed, bias, layout, activation, geometry):
    if activation != "gelu":
        y = _product(x, packed, bias, layout, activation, geometry)
        return y, (x, packed, bias, layout, y if activation == "relu" else None)
    # Its derivative cannot be read off its value.
    z = _product(x, packed, bias, layout, "none", geometry)
    return ACTIVATIONS[activation](z), (x, packed, bias, layout, z)


def _product_bwd(activation, geometry, saved, dy):
    x, packed, bias, layout, found = saved
    dy = before(activation, found, dy)
    dx = _on_platform("dx", geometry, layout, dy, packed, layout)
    dw = _on_platform("dw", geometry, layout, x, dy, layout)
    wide = jnp.promote_types(dy.dtype, jnp.float32)
    over = tuple(range(dy.ndim - 1))
    dbias = None if bias is None else jnp.sum(dy, over, dtype=wide).astype(bias.dtype)
    return dx, dw, dbias, None


_product.defvjp(_product_fwd, _product_bwd)


def _on_platform(
    verb: str, geometry: Geometry | None, layout: Layout, *args: Any, **static: Any
) -> jax.Array:
    """The verb of the backend of whichever platform the program is lowered for."""
    dtype = args[0].dtype
    if geometry is not None:
        verb, static = CONVOLUTIONS[verb], static | {"geometry": geometry}
    run = lambda module: functools.partial(getattr(module, verb), **static)
    branches = {
        platform: run(backend_of(platform, layout, dtype, geometry)[0]) for platform in BACKENDS
    }
    return lax.platform_dependent(*args, default=run(dense), **branches)
