"""A small convolutional network for small images."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class CNN(nn.Module):
    """Convolutions that halve the image, dense layers, then a classifier called `head`.

    Each stage is a 3x3 convolution without bias, a batch norm, a ReLU and a 2x2 max pooling.
    Called with images (N, H, W, C); returns float32 logits (N, classes).

    Attributes:
      classes: number of classes.
      widths: channels of each stage, `conv1` and `bn1`, `conv2` and `bn2`, ...
      hidden: outputs of each dense layer after the flattening, `dense1`, ...
      dtype: type of the computation; parameters and statistics are float32.

    Raises:
      ValueError: when the image is too small to be halved once per stage.
    """

    classes: int
    widths: tuple[int, ...] = (32, 64)
    hidden: tuple[int, ...] = (128,)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        stages, side = len(self.widths), min(images.shape[1:3])
        if side < 2**stages:
            raise ValueError(
                f"images of {images.shape[1]}x{images.shape[2]} cannot be halved {stages} times: "
                f"give at most {side.bit_length() - 1} widths or images of {2**stages} or more"
            )
        x, he = images.astype(self.dtype), nn.initializers.he_normal()
        for i, width in enumerate(self.widths, 1):
            conv = nn.Conv(
                width, (3, 3), use_bias=False, dtype=self.dtype, kernel_init=he, name=f"conv{i}"
            )
            norm = nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype, name=f"bn{i}")
            x = halved(nn.relu(norm(conv(x))))
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.hidden, 1):
            x = nn.relu(nn.Dense(width, dtype=self.dtype, kernel_init=he, name=f"dense{i}")(x))
        return nn.Dense(self.classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)


def halved(x: jax.Array) -> jax.Array:
    """2x2 max pooling with stride 2: (N, H, W, C) -> (N, H // 2, W // 2, C).

    As the largest of four strided views: the gradient of a windowed maximum is a scatter, which takes
    some fifty times as long on a CPU and outweighs the convolutions.
    """
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    corners = [x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]
    return functools.reduce(jnp.maximum, corners)
