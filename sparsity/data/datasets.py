"""Image classification sets by name, as arrays in memory."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sparsity.data import cifar, digits, mnist, tables, tfds
from sparsity.data.files import root_of
from sparsity.data.holdout import hold_out
from sparsity.data.pixels import moments
from sparsity.named import unknown

Arrays = tuple[np.ndarray, np.ndarray, int]
READERS: dict[str, Callable[[Path | None, str], Arrays]] = {
    "digits": lambda root, split: digits.read(split),
    "mnist": partial(mnist.read, mnist.MNIST),
    "fashion_mnist": partial(mnist.read, mnist.FASHION_MNIST),
    "cifar10": cifar.read,
}
TFDS, FOLDER = "tfds:", "folder:"
SPLITS = ("train", "validation", "test")


class Dataset(NamedTuple):
    """One split of a data set.

    images: uint8 (N, H, W, C). labels: int32 (N,), from 0 to classes - 1. mean, std: float32 (C,),
    of the whole training set (what is held out included), where 255 counts as 1: all splits of a
    data set have the same.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: int
    mean: np.ndarray
    std: np.ndarray

    @property
    def size(self) -> int:
        """Images of the split."""
        return len(self.labels)


def load(
    name: str,
    *,
    split: str,
    root: str | os.PathLike | None = None,
    validation: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """One split of a data set; see `load_splits`."""
    return load_splits(name, (split,), root=root, validation=validation, seed=seed)[split]


def load_splits(
    name: str,
    splits: Sequence[str],
    *,
    root: str | os.PathLike | None = None,
    validation: float = 0.0,
    seed: int = 0,
) -> dict[str, Dataset]:
    """Splits of a data set by their names: "train", "validation", "test".

    Arguments:
      name: digits, mnist, fashion_mnist, cifar10, or tfds:NAME for an image classification set
        that TFDS has stored as ArrayRecord.
      splits: those wanted; asked for together, the files are read once.
      root: the folder of all data sets, by default that of $SPARSITY_DATA.
      validation: share of each class of the training set that is cut off as "validation"; "train"
        is then the rest.
      seed: what the cut is a function of.

    Raises:
      ValueError: for an unknown name or split, for "validation" without a share, for broken files.
      FileNotFoundError: when the data set is not there: what to download and where to put it.
      ImportError: when the library that a set is read with is not installed.
    """
    for split in splits:
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
    if "validation" in splits and not validation:
        raise ValueError('the split "validation" needs a share: pass validation, as in 0.1')
    read = partial(_reader(name), root_of(root))
    images, labels, classes = _checked(name, read("train"))
    rows = {"train": np.arange(len(labels))}
    if validation:
        rows["train"], rows["validation"] = hold_out(labels, validation, seed)
    mean, std = moments(images)
    found = {}
    for split in splits:
        if split == "test":
            pair = _checked(name, read("test"), images.shape[1:], classes)[:2]
        elif validation:
            pair = images[rows[split]], labels[rows[split]]
        else:
            pair = images, labels
        found[split] = Dataset(name, *pair, classes, mean, std)
    return found


def _reader(name: str) -> Callable[[Path | None, str], Arrays]:
    if isinstance(name, str) and name.startswith(TFDS):
        return partial(tfds.read, name.removeprefix(TFDS))
    if isinstance(name, str) and name.startswith(FOLDER):
        raise ValueError(f"data set {name!r}: folders of pictures are streamed: set data.stream")
    if name in tables.READERS:
        raise ValueError(f"data set {name!r} is a table, not images: see tables.read")
    if name not in READERS:
        raise unknown("data set", name, (*READERS, *tables.READERS, f"{TFDS}NAME"))
    return READERS[name]


def _checked(
    name: str, arrays: Arrays, shape: tuple[int, ...] | None = None, classes: int | None = None
) -> Arrays:
    """The arrays, if they are not empty and fit the training set's."""
    images, _, found = arrays
    if not len(images):
        raise ValueError(f"data set {name!r} is empty")
    if shape not in (None, images.shape[1:]) or classes not in (None, found):
        raise ValueError(
            f"data set {name!r}: the training images are {shape} in {classes} classes, "
            f"the test images {images.shape[1:]} in {found}"
        )
    return arrays
