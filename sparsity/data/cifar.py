"""CIFAR-10 in its binary version: per image a label byte, then 32x32 of red, of green, of blue."""

import os
from pathlib import Path

import numpy as np

from sparsity.data.files import Origin, find

CLASSES = 10
SIDE, CHANNELS = 32, 3
RECORD = 1 + CHANNELS * SIDE * SIDE
RECORDS = 10_000
FILES = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}
CIFAR10 = Origin(
    "cifar10",
    "cifar-10-batches-bin",
    "Download https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz and unpack it in {root}",
)


def read(root: Path | None, split: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Images (N, 32, 32, 3) uint8, labels (N,) int32, and the number of classes.

    Raises:
      FileNotFoundError: when a file is not there.
      ValueError: when a file has another size, or a label is above 9.
    """
    batches = [read_batch(path) for path in find(root, CIFAR10, FILES[split])]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return images, labels, CLASSES


def read_batch(path: str | os.PathLike, records: int = RECORDS) -> tuple[np.ndarray, np.ndarray]:
    """Images (records, 32, 32, 3) uint8 and labels (records,) int32 of one file.

    Raises:
      ValueError: when the file has another size, or a label is above 9.
    """
    expected, found = records * RECORD, os.path.getsize(path)
    if found != expected:
        raise ValueError(
            f"{path}: expected {expected} bytes ({records} records of {RECORD}), found {found}"
        )
    rows = np.fromfile(path, np.uint8).reshape(records, RECORD)
    labels = rows[:, 0]
    if labels.max() >= CLASSES:
        first = int(np.argmax(labels >= CLASSES))
        raise ValueError(
            f"{path}: expected labels 0 to {CLASSES - 1}, found {labels[first]} in record {first}"
        )
    images = rows[:, 1:].reshape(records, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int32)
