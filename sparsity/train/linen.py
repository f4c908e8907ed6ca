"""How a Linen module multiplies by its kernel, read off its attributes."""

import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.linear import canonicalize_padding

from sparsity.kernels.geometry import geometry_of
from sparsity.train.site import Site

# What a module may ask of its product that a block-sparse one does not do.
OWN = (
    "precision",
    "dot_general",
    "dot_general_cls",
    "conv_general_dilated",
    "conv_general_dilated_cls",
)


def site_of(module: Any, kernel: Any, x: Any) -> Site:
    """The site of a module that is called with x (arrays or shapes), its refusal included."""
    plain = Site("/".join(module.path), kernel.shape, kernel.ndim - 1, 1, kernel.dtype.name)
    if type(module) not in (nn.Dense, nn.DenseGeneral, nn.Conv):
        return plain._replace(refusal=f"{type(module).__name__} is no Dense, DenseGeneral or Conv")
    plain = plain._replace(dtype=jnp.dtype(module.dtype or jnp.result_type(x, kernel)).name)
    read = _convolution if type(module) is nn.Conv else _matrix
    site = read(plain, module, x)
    asked = [name for name in OWN if getattr(module, name, None) is not None]
    return site._replace(refusal=f"it asks for {asked[0]} of its own") if asked else site


def _matrix(plain: Site, module: Any, x: Any) -> Site:
    axes = getattr(module, "axis", -1)
    axes = tuple(a % x.ndim for a in (axes if isinstance(axes, tuple | list) else (axes,)))
    count = len(axes)
    site = plain._replace(contracted=count, rows=math.prod(x.shape[1 : x.ndim - count]))
    if axes != tuple(range(x.ndim - count, x.ndim)) or getattr(module, "batch_dims", ()):
        return site._replace(refusal="it does not sum over the last axes of its inputs")
    return site


def _convolution(plain: Site, module: nn.Conv, x: Any) -> Site:
    odd = {*_each(module.input_dilation), *_each(module.kernel_dilation)} - {1}
    if len(plain.shape) != 4 or odd or module.feature_group_count != 1 or module.mask is not None:
        return plain._replace(
            refusal="its convolution is dilated, grouped, masked or not of images"
        )
    padding: Any = canonicalize_padding(module.padding, 2)
    if isinstance(padding, str) and padding not in ("SAME", "VALID"):
        return plain._replace(refusal=f"its padding is {padding}")
    strides: Any = _each(module.strides) * (1 if isinstance(module.strides, tuple | list) else 2)
    pads: Any = padding if isinstance(padding, str) else tuple((int(a), int(b)) for a, b in padding)
    geometry = geometry_of(x.shape[-3:], plain.shape[:2], strides, pads)
    return plain._replace(geometry=geometry, rows=math.prod(geometry.out))


def _each(numbers: Any) -> tuple[int, ...]:
    return (numbers,) if isinstance(numbers, int) else tuple(numbers or (1,))
