"""Small data sets in their publishers' formats."""

import gzip
import io
import pathlib

import numpy as np
import pytest
from PIL import Image

IDX = ("images-idx3-ubyte", "labels-idx1-ubyte")
SCANS = {"train": 20, "test": 7}


def idx_bytes(array):
    sizes = np.array(array.shape, ">u4").tobytes()
    return bytes((0, 0, 8, array.ndim)) + sizes + array.astype(np.uint8).tobytes()


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array.squeeze()).save(stream, "PNG")
    stream.seek(0)
    return stream


@pytest.fixture
def idx():
    return idx_bytes


@pytest.fixture
def mnist_root(tmp_path):
    """A root with 30 training images of 6x5 (plain) and 10 test images (compressed)."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "mnist"
    folder.mkdir()
    for stem, n in (("train", 30), ("t10k", 10)):
        arrays = rng.integers(0, 256, (n, 6, 5)), np.arange(n) % 10
        for kind, array in zip(IDX, arrays, strict=True):
            if stem == "train":
                (folder / f"{stem}-{kind}").write_bytes(idx_bytes(array))
            else:
                (folder / f"{stem}-{kind}.gz").write_bytes(gzip.compress(idx_bytes(array)))
    return tmp_path


@pytest.fixture
def cifar_root(tmp_path):
    """A root with files of the right size, all zeros, that take no space."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]:
        with open(folder / name, "wb") as file:
            file.truncate(10_000 * 3073)
    return tmp_path


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """stored(name, (image, label) rows by split, ...) -> root: TFDS writes a set as ArrayRecord, once."""
    import tensorflow_datasets as tfds

    made: dict[str, pathlib.Path] = {}

    def store(set_name, splits, shape=(8, 8, 1), extra=()):
        if set_name in made:
            return made[set_name]
        features = {
            "image": tfds.features.Image(shape=shape),
            "label": tfds.features.ClassLabel(num_classes=3),
            **{key: tfds.features.Image(shape=shape) for key in extra},
        }

        class Stored(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            name = set_name
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(rows) for split, rows in splits.items()}

            def _generate_examples(self, rows):
                for i, (image, label) in enumerate(rows):
                    yield i, {"image": png(image), "label": label} | {k: png(image) for k in extra}

        root = tmp_path_factory.mktemp(set_name)
        Stored(data_dir=str(root), file_format="array_record").download_and_prepare()
        made[set_name] = root
        return root

    return store


@pytest.fixture
def scans(stored):
    """A root with the set `scans`, and the images by split whose first pixel is their number."""
    rng = np.random.default_rng(0)
    images = {s: rng.integers(0, 256, (n, 8, 8, 1), np.uint8) for s, n in SCANS.items()}
    for array in images.values():
        array[:, 0, 0, 0] = np.arange(len(array))
    rows = {s: [(image, i % 3) for i, image in enumerate(a)] for s, a in images.items()}
    return stored("scans", rows), images
