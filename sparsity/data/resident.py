"""Small sets that live on the device: a batch is a gather inside the training step."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from sparsity.data.datasets import Dataset
from sparsity.data.pixels import standardise

Place = jax.Device | jax.sharding.Sharding | None
Augment = Callable[[jax.Array, jax.Array], jax.Array]


class Resident(NamedTuple):
    """A data set's arrays on the device: uint8 (N, H, W, C), int32 (N,), and (C,) float32 twice.

    Pass it to a jitted function as an argument: closed over, it would be compiled in as a constant.
    """

    images: jax.Array
    labels: jax.Array
    mean: jax.Array
    std: jax.Array

    @classmethod
    def of(cls, dataset: Dataset, device: Place = None) -> "Resident":
        """The data set on a device or under a sharding, by default on the first device."""
        arrays = (dataset.images, dataset.labels, dataset.mean, dataset.std)
        return cls(*(jax.device_put(array, device) for array in arrays))


def batch(
    resident: Resident,
    indices: jax.Array | np.ndarray,
    key: jax.Array | None = None,
    augment: Augment | None = None,
) -> dict[str, jax.Array]:
    """The rows `indices` (n,): {"image": standardised (n, H, W, C) float32, "label": (n,) int32}.

    `augment(key, images)` sees the uint8 images, so that what it pads with is black.

    Raises:
      ValueError: when there is something to augment with but no key.
    """
    images = resident.images[indices]
    if augment is not None:
        if key is None:
            raise ValueError("an augmentation needs a key; evaluate without it")
        images = augment(key, images)
    return {
        "image": standardise(images, resident.mean, resident.std),
        "label": resident.labels[indices],
    }
