"""Every set comes as uint8 images, int32 labels and the training set's moments."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from sparsity.data import load, load_splits
from sparsity.data.cifar import read_batch
from sparsity.data.pixels import moments

ALL = ("train", "validation", "test")


def check(dataset, shape, classes):
    assert dataset.images.dtype == np.uint8 and dataset.labels.dtype == np.int32
    assert dataset.images.shape == (len(dataset.labels), *shape)
    assert dataset.classes == classes and set(dataset.labels.tolist()) == set(range(classes))
    assert dataset.mean.shape == dataset.std.shape == (shape[-1],)


def rows(dataset):
    return [image.tobytes() for image in dataset.images]


def test_digits_are_the_bundled_scans():
    splits = load_splits("digits", ("train", "test"))
    for dataset in splits.values():
        check(dataset, (8, 8, 1), 10)
    images = np.concatenate([d.images for d in splits.values()])[..., 0]
    ours, theirs = np.rint(images / (255 / 16)), load_digits(return_X_y=True)[0]
    flat = [np.uint8(pixels).reshape(-1, 64) for pixels in (ours, theirs)]
    assert sorted(map(bytes, flat[0])) == sorted(map(bytes, flat[1]))
    assert len(splits["test"].labels) == 355 and len(splits["train"].labels) == 1442


def test_digits_of_the_test_set_stay_when_a_validation_set_is_cut():
    plain, cut = (
        load_splits("digits", ("train", "test")),
        load_splits("digits", ALL, validation=0.1),
    )
    np.testing.assert_array_equal(plain["test"].images, cut["test"].images)
    parts = rows(cut["train"]) + rows(cut["validation"])
    assert sorted(parts) == sorted(rows(plain["train"]))
    assert len(cut["validation"].labels) == 140


def test_all_splits_have_the_moments_of_the_whole_training_set():
    splits = load_splits("digits", ALL, validation=0.3)
    whole = load("digits", split="train")
    for dataset in splits.values():
        np.testing.assert_array_equal(dataset.mean, whole.mean)
        np.testing.assert_array_equal(dataset.std, whole.std)


def test_a_split_alone_is_the_split_among_others():
    together = load_splits("digits", ALL, validation=0.2, seed=3)
    for split, dataset in together.items():
        alone = load("digits", split=split, validation=0.2, seed=3)
        np.testing.assert_array_equal(alone.images, dataset.images)
        np.testing.assert_array_equal(alone.labels, dataset.labels)


def test_idx_files_are_read_plain_and_compressed(mnist_root):
    splits = load_splits("mnist", ("train", "test"), root=mnist_root)
    for dataset, n in zip(splits.values(), (30, 10), strict=True):
        check(dataset, (6, 5, 1), 10)
        assert len(dataset.labels) == n
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(
        splits["train"].images[..., 0], rng.integers(0, 256, (30, 6, 5)).astype(np.uint8)
    )


def test_the_root_is_that_of_the_environment(mnist_root, monkeypatch):
    monkeypatch.setenv("SPARSITY_DATA", str(mnist_root))
    assert len(load("mnist", split="train").labels) == 30


def test_cifar_records_are_planes_of_red_green_blue(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 32, 32, 3), np.uint8)
    labels = np.array([3, 9, 0, 1, 2], np.uint8)
    planes = images.transpose(0, 3, 1, 2).reshape(5, -1)
    np.concatenate([labels[:, None], planes], 1).tofile(tmp_path / "small.bin")
    found, marks = read_batch(tmp_path / "small.bin", records=5)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(marks, labels)


def test_moments_are_those_of_the_pixels():
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 3, 2), np.uint8)
    mean, std = moments(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-6)


def test_a_constant_channel_is_divided_by_one():
    images = np.full((2, 3, 3, 1), 51, np.uint8)
    mean, std = moments(images)
    np.testing.assert_array_equal([mean[0], std[0]], np.array([0.2, 1.0], np.float32))


@pytest.mark.parametrize(
    ("name", "shape", "mean", "std"),
    [
        ("mnist", (28, 28, 1), [0.1307], [0.3081]),
        ("fashion_mnist", (28, 28, 1), [0.2860], [0.3530]),
        ("cifar10", (32, 32, 3), [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    ],
)
def test_real_files_have_the_published_sizes_and_moments(data_root, name, shape, mean, std):
    splits = load_splits(name, ("train", "test"), root=data_root)
    sizes = [len(dataset.labels) for dataset in splits.values()]
    assert sizes == [50_000 if name == "cifar10" else 60_000, 10_000]
    for dataset in splits.values():
        check(dataset, shape, 10)
        np.testing.assert_allclose(dataset.mean, mean, atol=5e-5)
        np.testing.assert_allclose(dataset.std, std, atol=5e-5)
    if name == "cifar10":
        assert set(np.bincount(splits["train"].labels)) == {5000}


def test_real_labels_stand_beside_their_images(data_root):
    """MNIST is known to start with 5, 0, 4, 1, 9; a zero is blank in its middle, a one is not."""
    dataset = load("mnist", split="train", root=data_root)
    assert dataset.labels[:5].tolist() == [5, 0, 4, 1, 9]
    zero, one = (dataset.images[dataset.labels == k].mean(0)[14, 14, 0] for k in (0, 1))
    assert zero < 20 and one > 200
