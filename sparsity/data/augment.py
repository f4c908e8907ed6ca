"""Random crops and flips of a batch of images, on the device, from a key."""

import jax
import jax.numpy as jnp
import numpy as np

Images = jax.Array | np.ndarray


def crop(key: jax.Array, images: Images, pad: int = 4) -> jax.Array:
    """Each image (of N, H, W, C) framed by `pad` zeros and cut back to its size at a random place.

    All (2 pad + 1)^2 places are equally likely.
    """
    frame = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    places = jax.random.randint(key, (len(images), 2), 0, 2 * pad + 1)

    def cut(image: jax.Array, place: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (place[0], place[1], 0), images.shape[1:])

    return jax.vmap(cut)(frame, places)


def flip(key: jax.Array, images: Images) -> jax.Array:
    """Each image (of N, H, W, C) mirrored left to right with probability 1/2."""
    mirrored = jax.random.bernoulli(key, 0.5, (len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def crop_and_flip(key: jax.Array, images: Images, pad: int = 4) -> jax.Array:
    """The usual augmentation of CIFAR: He et al., arXiv 1512.03385, section 4.2."""
    first, second = jax.random.split(key)
    return flip(second, crop(first, images, pad))
