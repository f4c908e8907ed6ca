"""The pictures of a set that TFDS has stored, as they are encoded: ArrayRecord or TFRecord, no TensorFlow."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsity.data.examples import parsed
from sparsity.data.offsets import offsets
from sparsity.data.pictures import Picture
from sparsity.data.tfds import Stored, explained, stored
from sparsity.data.tfrecord import read_at

Said = Callable[[str], None]
ARRAY_RECORD, TFRECORD = "array_record", "tfrecord"
FILE_NAME = "file_name"  # what ImageNet's records also hold


@dataclass(frozen=True)
class Shards:
    """Random access to the records of TFRecord files. ends: records up to the end of each file."""

    paths: tuple[Path, ...]
    offsets: tuple[np.ndarray, ...]
    ends: np.ndarray

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> bytes:
        shard = int(np.searchsorted(self.ends, index, side="right"))
        place = index - (int(self.ends[shard - 1]) if shard else 0)
        return read_at(self.paths[shard], int(self.offsets[shard][place]))


@dataclass(frozen=True)
class Encoded:
    """A split; see `pictures.Pictures`. records: of serialised tf.train.Example."""

    records: Any
    keys: tuple[str, str]
    classes: int
    where: str

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Picture:
        """Raises ValueError for a record that cannot be read, and a label that is none of the set's."""
        with explained(f"{self.where}: of {len(self)} records, number {index} cannot be read"):
            features = parsed(self.records[index])
        image, label = (self._one(features, key, index) for key in self.keys)
        if not isinstance(image, bytes) or not 0 <= label < self.classes:
            raise ValueError(
                f"{self.where}: record {index} has the label {label!r}, not one of 0 to "
                f"{self.classes - 1}"
            )
        name = features.get(FILE_NAME) or [b""]
        return Picture(image, label, f"{self.where}, record {index} {_text(name[0])}".rstrip())

    def _one(self, features: Any, key: str, index: int) -> Any:
        if len(features.get(key, ())) != 1:
            raise ValueError(
                f"{self.where}: record {index} has not one {key!r}; it holds "
                f"{', '.join(features) or 'nothing'}"
            )
        return features[key][0]


def pictures(name: str, split: str, root: Path | None, said: Said = lambda line: None) -> Encoded:
    """The split "train" or "test" of the set NAME of TFDS, in whichever of the two forms it lies.

    said: takes lines on the indexing of TFRecord files, which happens once (`offsets`).

    Raises as `tfds.stored`; ValueError for another form, an index that cannot be made, and files that
    hold another number of records than the set's metadata say.
    """
    at = stored(name, split, root)
    return Encoded(_records(at, said), at.keys, at.classes, at.where)


def _records(at: Stored, said: Said) -> Any:
    form = at.builder.info.file_format.value
    if form == ARRAY_RECORD:
        import tensorflow_datasets as tfds

        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        with explained(f"{at.folder}: no ArrayRecord"):
            return at.builder.as_data_source(split=at.split, deserialize_method=raw)
    if form != TFRECORD:
        raise ValueError(f"{at.folder}: expected ArrayRecord or TFRecord, found {form}")
    return _shards(at, said)


def _shards(at: Stored, said: Said) -> Shards:
    split = at.builder.info.splits[at.split]
    paths = tuple(Path(path) for path in split.filepaths)
    if lacking := [path.name for path in paths if not path.is_file()]:
        raise ValueError(
            f"{at.where}: {len(lacking)} of {len(paths)} files are not there, the first is {lacking[0]}"
        )
    found = offsets(paths, said)
    for path, index, expected in zip(paths, found, split.shard_lengths, strict=True):
        if len(index) != expected:
            raise ValueError(
                f"{path}: {len(index)} records, where dataset_info.json says {expected}: a file of "
                "another set or version"
            )
    return Shards(paths, tuple(found), np.cumsum([len(index) for index in found]))


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
