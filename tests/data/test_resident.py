"""Batches of a resident set are standardised rows; augmentations only move pixels."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.data import Dataset, Resident, batch, eval_batches, load
from sparsity.data.augment import crop, crop_and_flip, flip


def dataset(n=12, side=6):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, side, side, 2), np.uint8)
    labels = np.arange(n, dtype=np.int32)
    mean, std = np.array([[0.4, 0.6], [0.2, 0.3]], np.float32)
    return Dataset("noise", images, labels, n, mean, std)


def test_a_batch_is_the_standardised_rows_also_inside_jit():
    data = dataset()
    resident, rows = Resident.of(data), np.array([5, 0, 5, 11], np.int32)
    expected = (data.images[rows] / 255.0 - data.mean) / data.std
    for run in (batch, jax.jit(batch)):
        found = run(resident, rows)
        assert found["image"].dtype == jnp.float32 and found["label"].dtype == jnp.int32
        np.testing.assert_allclose(found["image"], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found["label"], data.labels[rows])


def test_the_training_set_is_standardised():
    resident = Resident.of(load("digits", split="train"))
    images = batch(resident, np.arange(len(resident.labels)))["image"]
    np.testing.assert_allclose([images.mean(), images.std()], [0, 1], atol=1e-4)


def test_evaluation_sums_count_every_image_once():
    resident = Resident.of(dataset())
    rows, weights = eval_batches(12, 5)
    labels = jax.vmap(lambda r: batch(resident, r)["label"])(rows)
    assert (labels * weights).sum() == sum(range(12))


def test_augmentation_happens_before_standardising():
    resident, rows, key = Resident.of(dataset()), np.arange(4), jax.random.key(0)
    found = batch(resident, rows, key, lambda key, images: jnp.zeros_like(images))["image"]
    np.testing.assert_allclose(
        found, jnp.broadcast_to(-jnp.array([2.0, 2.0]), found.shape), rtol=1e-6
    )


def test_an_augmentation_without_a_key_is_refused():
    with pytest.raises(ValueError, match="needs a key"):
        batch(Resident.of(dataset()), np.arange(4), augment=flip)


def windows(image, pad):
    """All images that a crop may give, by place."""
    frame, side = np.pad(image, ((pad, pad), (pad, pad), (0, 0))), image.shape[0]
    places = [(i, j) for i in range(2 * pad + 1) for j in range(2 * pad + 1)]
    return {frame[i : i + side, j : j + side].tobytes(): (i, j) for i, j in places}


def test_a_crop_is_a_window_of_the_framed_image_and_all_windows_come():
    image = dataset(1).images[0]
    found = jax.jit(partial(crop, pad=1))(jax.random.key(0), np.repeat(image[None], 900, 0))
    places = [windows(image, 1)[np.asarray(one).tobytes()] for one in found]
    counts = np.unique(places, axis=0, return_counts=True)[1]
    # 100 expected at each of 9 places with a deviation of 9.4: five of them
    assert len(counts) == 9 and np.abs(counts - 100).max() < 48


def test_a_crop_without_padding_changes_nothing():
    images = dataset().images
    np.testing.assert_array_equal(crop(jax.random.key(0), images, pad=0), images)


def test_a_flip_mirrors_half_of_the_images():
    image = dataset(1).images[0]
    found = np.asarray(flip(jax.random.key(0), np.repeat(image[None], 900, 0)))
    mirrored = (found == image[:, ::-1]).all((1, 2, 3))
    assert ((found == image).all((1, 2, 3)) ^ mirrored).all()
    assert abs(mirrored.sum() - 450) < 75  # five deviations of 15


def test_augmentation_is_a_function_of_the_key():
    images, run = dataset().images, jax.jit(crop_and_flip)
    first, again, other = (run(jax.random.key(seed), images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and first.dtype == jnp.uint8 and first.shape == images.shape


def test_crops_and_flips_do_not_depend_on_each_other():
    images = np.repeat(dataset(1).images, 400, 0)
    found = jax.jit(partial(crop_and_flip, pad=1))(jax.random.key(3), images)
    straight, mirrored = (windows(i, 1) for i in (images[0], images[0][:, ::-1]))
    seen = {
        (np.asarray(f).tobytes() in straight, np.asarray(f).tobytes() in mirrored) for f in found
    }
    assert seen == {(True, False), (False, True)}
