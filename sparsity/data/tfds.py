"""Image classification sets that TFDS has stored as ArrayRecord, read without TensorFlow.

A set lies in ROOT/NAME[/CONFIG]/VERSION; nothing of it is downloaded or prepared here. OpenCV or
Pillow decodes the images.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparsity.data.files import Origin, absent, root_of

INFO = "dataset_info.json"
NAME = re.compile(r"\w+(/\w[\w.+-]*)?(:\d+\.\d+\.\d+)?")
# Where a publisher keeps the labels of the test set, its validation set is the test set.
SPLITS = {"train": ("train",), "test": ("test", "validation")}
UNLABELLED_TEST = ("imagenet2012",)


@dataclass(frozen=True)
class Source:
    """Random access to {"image": uint8 (H, W, C), "label": int32 ()}, for `pipeline.batches`."""

    records: Any
    keys: tuple[str, str]
    classes: int
    where: str

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Raises ValueError when the record cannot be read, or has no label."""
        with explained(f"{self.where}: of {len(self)} records, number {index} cannot be read"):
            record = self.records[int(index)]
        image, label = (np.asarray(record[key]) for key in self.keys)
        if label < 0:
            raise ValueError(f"{self.where}: record {index} has no label")
        return {"image": image, "label": label.astype(np.int32)}


class Stored(NamedTuple):
    """A split as it lies on the disk: its builder, the publisher's name of it, the keys of image and label."""

    folder: Path
    builder: Any
    split: str
    keys: tuple[str, str]
    classes: int

    @property
    def where(self) -> str:
        """The split in an error."""
        return f"{self.folder}, split {self.split!r}"


def stored(name: str, split: str, root: str | os.PathLike | None = None) -> Stored:
    """A split ("train", "test") of the set NAME, NAME/CONFIG or NAME:VERSION; no record is read.

    Of several versions the newest is taken. Where there is no test split, or one without labels is
    known of (ImageNet), "test" is the publisher's "validation".

    Raises:
      FileNotFoundError: when the set is not there: how to prepare it and where.
      ValueError: when the folder holds another set, it has no such split, several configs of which none
        was named, or not one image and one label.
    """
    import tensorflow_datasets as tfds

    folder = _folder(root_of(root), name)
    with explained(f"{folder}: not a data set of TFDS"):
        builder = tfds.builder_from_directory(folder)
    asked = name.partition(":")[0].partition("/")[0]
    if builder.info.name != asked:
        raise ValueError(f"{folder}: expected the set {asked!r}, found {builder.info.name!r}")
    order = SPLITS[split] if asked not in UNLABELLED_TEST else tuple(reversed(SPLITS[split]))
    found = next((s for s in order if s in builder.info.splits), None)
    if found is None:
        raise ValueError(
            f"{folder}: no split {split!r}; there are {', '.join(builder.info.splits)}"
        )
    keys = _keys(folder, builder.info, tfds.features)
    classes = builder.info.features[keys[1]].num_classes
    return Stored(folder, builder, found, keys, classes)


def source(name: str, split: str, root: str | os.PathLike | None = None) -> Source:
    """A split of a set stored as ArrayRecord, its images decoded as asked for; see `stored`.

    Raises as `stored`, and ValueError when it is not stored as ArrayRecord.
    """
    at = stored(name, split, root)
    found = at.builder.info.file_format.value
    with explained(f"{at.folder}: expected ArrayRecord, found {found}"):
        records = at.builder.as_data_source(split=at.split)
    return Source(records, at.keys, at.classes, at.where)


def read(name: str, root: Path | None, split: str) -> tuple[np.ndarray, np.ndarray, int]:
    """A whole split: images (N, H, W, C) uint8, labels (N,) int32, and the number of classes.

    Raises:
      FileNotFoundError, ValueError: as `source`, and when records cannot be read or the images are
        not uint8 of one shape.
    """
    rows = source(name, split, root)
    first = rows[0]["image"]
    if first.dtype != np.uint8 or first.ndim != 3:
        raise ValueError(
            f"{rows.where}: expected uint8 images (H, W, C), found {first.dtype} {first.shape}"
        )
    images = np.empty((len(rows), *first.shape), np.uint8)
    labels = np.empty(len(rows), np.int32)
    for i in range(len(rows)):
        row = rows[i]
        if row["image"].shape != first.shape:
            raise ValueError(
                f"{rows.where}: image {i} is {row['image'].shape}, the first {first.shape}: a set "
                "in memory has images of one shape; read others through the host pipeline"
            )
        images[i], labels[i] = row["image"], row["label"]
    return images, labels, rows.classes


def _folder(root: Path | None, name: str) -> Path:
    """The folder of the newest version, or of the one that is named."""
    if not NAME.fullmatch(name):
        raise ValueError(f"tfds:{name}: expected NAME, NAME/CONFIG, or either followed by :1.0.0")
    path, _, version = name.partition(":")
    origin = Origin(
        f"tfds:{name}",
        path,
        f'Prepare it with tfds.builder("{path}", data_dir="{{root}}", file_format="array_record")'
        ".download_and_prepare()",
    )
    if root is None:
        raise absent(root, origin, [f"{version or 'VERSION'}/{INFO}"])
    versions = {p.parent.name: p.parent for p in (root / path).glob(f"*/{INFO}")}
    configs = sorted({p.parent.parent.name for p in (root / path).glob(f"*/*/{INFO}")})
    if not versions and configs:
        raise ValueError(
            f"tfds:{name}: name one of its configs: "
            f"{', '.join(f'tfds:{path}/{config}' for config in configs)}"
        )
    if version not in ("", *versions) or not versions:
        raise absent(root, origin, [f"{version or 'VERSION'}/{INFO}"])
    return versions[version or max(versions, key=_number)]


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in version.split("."))


def _keys(folder: Path, info: Any, features: Any) -> tuple[str, str]:
    """The names of the one image and the one label among the features."""
    kinds = (features.Image, features.ClassLabel)
    found = [[k for k, f in info.features.items() if isinstance(f, kind)] for kind in kinds]
    if [len(names) for names in found] != [1, 1]:
        raise ValueError(
            f"{folder}: expected one Image and one ClassLabel, found {dict(info.features.items())}"
        )
    return found[0][0], found[1][0]


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns what TFDS and its readers raise into a ValueError; a missing library stays what it is."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{what}: {reason}") from error
