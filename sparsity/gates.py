"""Gates: one trained number per unit, and the multiplier that it becomes.

The differentiable masks of SequentialAttention++ (arXiv 2402.17902, section 2), side by side. Every
multiplier is exactly 1 at its start, so that the gated network begins as the bare one.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Gate(NamedTuple):
    """start: the number every unit begins with.

    multiplier: (numbers (grid), batch, density) -> multipliers (grid); `batch` leading axes are
                independent, `density` is the plan's target per index (a traced scalar).
    rank:       numbers -> scores, without the ties that a clipped multiplier has.
    """

    start: float
    multiplier: Callable[[jax.Array, int, jax.Array], jax.Array]
    rank: Callable[[jax.Array], jax.Array]


def softmax(clip: bool = False) -> Gate:
    """A = e G / sum(e), e = exp(L - max L): G * softmax(L) over the G units of a layer (Algorithm 1).

    clip: to [density, 1/density] with the plan's target density (appendix C.1; with the current one a
    dense phase would clip to [1, 1] and the logits would get no gradient). It acts in the forward pass
    only: the gradient is the unclipped one.
    """

    def multiplier(logits: jax.Array, batch: int, density: jax.Array) -> jax.Array:
        axes = tuple(range(batch, logits.ndim))
        e = jnp.exp(logits - jax.lax.stop_gradient(jnp.max(logits, axis=axes, keepdims=True)))
        # In this order A is exactly 1 at equal logits, as G / G is. XLA compiles a division by a constant
        # (e / mean(e)) or by a broadcast (G e / sum(e)) to a product with 1/G, and G * (1/G) != 1 for
        # one G in eight.
        size = math.prod(logits.shape[batch:])
        attention = e * (size / jnp.sum(e, axis=axes, keepdims=True))
        if not clip:
            return attention
        clipped = jnp.clip(attention, density, 1 / density)
        # attention - attention is exactly 0; attention + (clipped - attention) would miss the bounds.
        return jax.lax.stop_gradient(clipped) + (attention - jax.lax.stop_gradient(attention))

    return Gate(0.0, multiplier, lambda logits: logits)


def exponential() -> Gate:
    """exp(w), the unnormalised softmax of Lemma 2.1."""
    return Gate(0.0, lambda w, batch, density: jnp.exp(w), lambda w: w)


def hoff() -> Gate:
    """w itself: the Hadamard product of Hoff 2017; with an L2 penalty on both factors, group lasso."""
    return Gate(1.0, lambda w, batch, density: w, jnp.abs)


def sigmoid() -> Gate:
    """2 sigmoid(w), which is 1 at w = 0."""
    return Gate(0.0, lambda w, batch, density: 2 * jax.nn.sigmoid(w), lambda w: w)


GATES: Mapping[str, Callable[..., Gate]] = {
    f.__name__: f for f in (softmax, exponential, hoff, sigmoid)
}
