"""Batch normalisation whose statistics are of the whole batch, or of equal parts of it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

MOMENTUM = 0.9  # share of the running statistics that a step keeps
EPSILON = 1e-5


def batch_norm(groups: int, *, train: bool, dtype: Any) -> Callable[..., nn.Module]:
    """A batch norm that takes `scale_init` and `name`, with statistics of `groups` parts of the batch.

    One group is the usual norm: its statistics are of the global batch, over however many devices it
    lies (cross-replica). As many groups as there are devices make each device normalise its own part:
    the rows of a part are neighbours, as the rows on a device are, so nothing is sent between devices
    but the running statistics. The number of groups is a field of the network and not of the machine,
    so another number of devices computes the same.
    """
    if groups == 1:
        return partial(nn.BatchNorm, not train, momentum=MOMENTUM, epsilon=EPSILON, dtype=dtype)
    return partial(PartsNorm, train, groups, dtype)


class PartsNorm(nn.Module):
    """(N, ..., C) -> the same, in training with the statistics of each of `groups` equal parts of N.

    Running statistics are the mean over the parts; parameters and collections are those of Linen's
    BatchNorm. Source: Hoffer et al., arXiv 1705.08741, whose running statistics differ in weighting.

    Attributes:
      train: normalise by the batch and update the running statistics, float32 `mean` and `var` (C,).
      groups: parts of the batch.
      dtype: of the result; statistics are float32.

    Raises:
      ValueError: when the groups do not divide the batch that is trained on.
    """

    train: bool
    groups: int
    dtype: Any
    scale_init: Any = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        var = self.variable("batch_stats", "var", jnp.ones, channels)
        scale = self.param("scale", self.scale_init, channels)
        bias = self.param("bias", nn.initializers.zeros_init(), channels)
        if not self.train:
            return self._normalised(x, mean.value, var.value, scale, bias)
        parts = _parts(x, self.groups)
        means, variances = _statistics(parts)
        if not self.is_initializing():
            mean.value = self._moved(mean.value, means)
            var.value = self._moved(var.value, variances)
        return self._normalised(parts, means, variances, scale, bias).reshape(x.shape)

    def _moved(self, running: jax.Array, found: jax.Array) -> jax.Array:
        fresh = found.reshape(self.groups, -1).mean(0)
        return MOMENTUM * running + (1 - MOMENTUM) * fresh

    def _normalised(self, x: Any, mean: Any, var: Any, scale: Any, bias: Any) -> jax.Array:
        y = (x - mean) * (jax.lax.rsqrt(var + EPSILON) * scale) + bias
        return y.astype(self.dtype)


def _parts(x: jax.Array, groups: int) -> jax.Array:
    """(N, ..., C) as (groups, N / groups, ..., C)."""
    if len(x) % groups:
        raise ValueError(f"a batch of {len(x)} cannot be normalised in {groups} equal groups")
    return x.reshape(groups, len(x) // groups, *x.shape[1:])


def _statistics(parts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of each part and channel, float32, shaped to broadcast over the parts.

    The variance is E[x^2] - E[x]^2, which takes one pass, and 0 where rounding makes it negative.
    """
    x, axes = parts.astype(jnp.float32), tuple(range(1, parts.ndim - 1))
    mean = x.mean(axes, keepdims=True)
    square = jnp.square(x).mean(axes, keepdims=True)
    return mean, jnp.maximum(square - jnp.square(mean), 0.0)
