"""Weights for networks that are not trained."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


def variables_of(module: nn.Module, images: jax.Array) -> Any:
    """Variables of the module's shapes, drawn without compiling its initialisers; vectors are near 1."""
    shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), images)
    rng = np.random.default_rng(1)
    draw = lambda s: 1 + 0.1 * rng.random(s) if len(s) < 2 else rng.normal(size=s) / s[0] ** 0.5
    return jax.tree.map(lambda x: jnp.asarray(draw(x.shape), x.dtype), shapes)
