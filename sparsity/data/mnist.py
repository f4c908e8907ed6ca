"""MNIST and the sets that share its format: pairs of IDX files, images and labels."""

from pathlib import Path

import numpy as np

from sparsity.data.files import Origin, find
from sparsity.data.idx import read_idx

CLASSES = 10
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
STEMS = "train-images-idx3, train-labels-idx1, t10k-images-idx3 and t10k-labels-idx1"


def _advice(place: str) -> str:
    return f"Download {STEMS} (each -ubyte.gz) from {place} and put them into {{place}}"


MNIST = Origin("mnist", "mnist", _advice("https://storage.googleapis.com/cvdf-datasets/mnist/"))
FASHION_MNIST = Origin(
    "fashion_mnist",
    "fashion-mnist",
    _advice("https://github.com/zalandoresearch/fashion-mnist/tree/master/data/fashion"),
)


def read(origin: Origin, root: Path | None, split: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Images (N, H, W, 1) uint8, labels (N,) int32, and the number of classes.

    Raises:
      FileNotFoundError: when a file is not there.
      ValueError: when a file is broken, the two do not belong together, or a label is above 9.
    """
    pictures, marks = find(root, origin, FILES[split], ("", ".gz"))
    images, labels = read_idx(pictures, 3), read_idx(marks, 1)
    if len(images) != len(labels):
        raise ValueError(
            f"{pictures}: {len(images)} images, but {len(labels)} labels in {marks.name}"
        )
    if labels.size and labels.max() >= CLASSES:
        raise ValueError(f"{marks}: expected labels 0 to {CLASSES - 1}, found {labels.max()}")
    return images[..., None], labels.astype(np.int32), CLASSES
