"""What pixels are to a network: their mean and deviation, and the floats made of them."""

import math

import jax
import jax.numpy as jnp
import numpy as np

Channels = jax.Array | np.ndarray
LEVELS = 256
CHUNK = 1 << 22  # pixels counted at a time: counting takes 8 bytes for each


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of uint8 images (N, H, W, C): (C,) float32 each.

    In units where 255 is 1. The sums are of integers, so they are exact. The deviation of a channel
    that is constant is given as 1, so that dividing by it changes nothing.
    """
    pixels = images.reshape(-1, images.shape[-1])
    values = range(LEVELS)
    means, deviations = [], []
    for channel in range(pixels.shape[1]):
        counts = np.zeros(LEVELS, np.int64)
        for start in range(0, len(pixels), CHUNK):
            counts += np.bincount(pixels[start : start + CHUNK, channel], minlength=LEVELS)
        counts = counts.tolist()  # whole numbers of any size
        n, total = len(pixels), sum(v * c for v, c in zip(values, counts, strict=True))
        squares = sum(v * v * c for v, c in zip(values, counts, strict=True))
        means.append(total / (255 * n))
        deviations.append(math.sqrt(n * squares - total * total) / (255 * n) or 1.0)
    return np.array(means, np.float32), np.array(deviations, np.float32)


def standardise(images: jax.Array, mean: Channels, std: Channels) -> jax.Array:
    """(pixel / 255 - mean) / std of uint8 images (..., C), as float32."""
    return (images.astype(jnp.float32) / 255 - mean) / std
