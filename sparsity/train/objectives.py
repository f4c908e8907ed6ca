"""What a run is trained and judged by: losses of outputs against labels, and which outputs are right."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

PerExample = Callable[[jax.Array, jax.Array], jax.Array]


class Objective(NamedTuple):
    """Functions of outputs (N, ...) and integer labels (N,), each with one number per example (N,).

    fit:   what training minimises the mean of.
    loss:  what evaluation reports the mean of.
    right: whether the output names the label.
    score: outputs -> how sure they are of label 1, where an evaluation ranks by it (AUC); None where not.
    """

    fit: PerExample
    loss: PerExample
    right: PerExample
    score: Callable[[jax.Array], jax.Array] | None = None


def cross_entropy(smoothing: float = 0.0) -> Objective:
    """Of integer labels under logits (N, classes), smoothed in training."""

    def loss(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
        target = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
        return optax.softmax_cross_entropy(logits, target)

    return Objective(
        fit=lambda logits, labels: loss(logits, labels, smoothing),
        loss=loss,
        right=lambda logits, labels: jnp.argmax(logits, axis=-1) == labels,
    )


def log_loss(smoothing: float = 0.0) -> Objective:
    """Binary cross-entropy, in nats, of labels 0 and 1 under the logits (N,) of label 1."""

    def loss(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
        target = labels * (1 - smoothing) + smoothing / 2
        return optax.sigmoid_binary_cross_entropy(logits, target)

    return Objective(
        fit=lambda logits, labels: loss(logits, labels, smoothing),
        loss=loss,
        right=lambda logits, labels: (logits > 0) == (labels == 1),
        score=lambda logits: logits,
    )
