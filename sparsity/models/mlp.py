"""A multilayer perceptron on flattened images."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class MLP(nn.Module):
    """Dense layers with ReLU, then a linear classifier called `head`.

    Called with images (N, H, W, C); returns float32 logits (N, classes).

    Attributes:
      classes: number of classes.
      widths: outputs of each hidden layer, `dense1`, `dense2`, ...
      dtype: type of the computation; the parameters are float32.
    """

    classes: int
    widths: tuple[int, ...] = (256, 256)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        del train  # nothing here differs between training and evaluation
        x = images.reshape(images.shape[0], -1).astype(self.dtype)
        he = nn.initializers.he_normal()
        for i, width in enumerate(self.widths, 1):
            x = nn.relu(nn.Dense(width, dtype=self.dtype, kernel_init=he, name=f"dense{i}")(x))
        return nn.Dense(self.classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)
