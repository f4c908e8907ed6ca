"""A plain folder of pictures: ROOT/NAME/train/CLASS/*.jpg, and the same under val, validation or test.

Classes are numbered in the order of their names in the training folder, pictures follow by class and by
name; what has another suffix is left out.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsity.data.files import Origin, absent
from sparsity.data.pictures import Picture

SUFFIXES = (".jpg", ".jpeg", ".png")
TRAIN, SPLITS = "train", {"train": ("train",), "test": ("val", "validation", "test")}
ADVICE = "Put pictures into {place}/train/CLASS/ and {place}/val/CLASS/, one folder a class"


@dataclass(frozen=True)
class Folder:
    """A split. names[i] lies in the folder of class labels[i]; see `pictures.Pictures`."""

    path: Path
    folders: tuple[str, ...]
    names: np.ndarray
    labels: np.ndarray

    @property
    def classes(self) -> int:
        """Number of classes of the training set."""
        return len(self.folders)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Picture:
        label = int(self.labels[index])
        path = self.path / self.folders[label] / str(self.names[index])
        return Picture(path.read_bytes(), label, str(path))


def pictures(
    name: str, split: str, root: Path | None, said: Callable[[str], None] = lambda line: None
) -> Folder:
    """The split "train" or "test" of the folder NAME; there is nothing to be said of it.

    Raises:
      FileNotFoundError: when it is not there: what to put where.
      ValueError: when a split holds no pictures, or classes that the training folder lacks.
    """
    del said
    origin = Origin(f"folder:{name}", name, ADVICE)
    if root is None or not (root / name / TRAIN).is_dir():
        raise absent(root, origin, [TRAIN])
    found = [s for s in SPLITS[split] if (root / name / s).is_dir()]
    if not found:
        raise absent(root, origin, [" or ".join(SPLITS[split])])
    folders, path = _folders(root / name / TRAIN), root / name / found[0]
    if strange := sorted(set(_folders(path)) - set(folders)):
        raise ValueError(
            f"{path}: {len(strange)} classes are not in {TRAIN}, the first is {strange[0]!r}"
        )
    lists = [_names(path / folder) for folder in folders]
    if not any(lists):
        raise ValueError(f"{path}: no pictures ({', '.join(SUFFIXES)}) in folders of classes")
    labels = np.repeat(np.arange(len(folders)), [len(names) for names in lists])
    return Folder(path, folders, np.array([n for names in lists for n in names]), labels)


def _folders(path: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in os.scandir(path) if entry.is_dir()))


def _names(path: Path) -> list[str]:
    """The pictures of a class, sorted; none where the split lacks the class."""
    if not path.is_dir():
        return []
    return sorted(e.name for e in os.scandir(path) if e.name.lower().endswith(SUFFIXES))
