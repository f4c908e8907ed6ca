"""Small real photographs as JPEGs, in the forms in which ImageNet lies on disks."""

import functools
import io
import json
import pathlib

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
from tensorboardX.record_writer import RecordWriter

CLASSES = 3
SIZES = {"train": 13, "val": 7}


@functools.cache
def photographs() -> list[np.ndarray]:
    """Scikit-learn's two sample photographs, 427x640."""
    return [np.asarray(image) for image in load_sample_images().images]


def jpeg(number: int) -> bytes:
    """A part of a photograph of its own, 60 to 120 pixels wide, as a JPEG."""
    rng = np.random.default_rng(number)
    height, width = rng.integers(60, 120, 2)
    top, left = rng.integers(0, 300, 2)
    part = photographs()[number % 2][top : top + height, left : left + width]
    stream = io.BytesIO()
    Image.fromarray(part).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def rows(split: str) -> list[tuple[bytes, int]]:
    """(JPEG, label) of each picture of a split, in classes."""
    first = 100 * (split != "train")
    return sorted(((jpeg(first + i), i % CLASSES) for i in range(SIZES[split])), key=lambda r: r[1])


def write_folder(root: pathlib.Path) -> None:
    """train/CLASS/*.jpg and val/CLASS/*.JPEG under ROOT/photographs."""
    for split, suffix in (("train", "jpg"), ("val", "JPEG")):
        for number, (data, label) in enumerate(rows(split)):
            path = root / "photographs" / split / f"class{label}" / f"{number:03}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def write_array_record(root: pathlib.Path) -> None:
    """TFDS writes the set as ArrayRecord, as `imagenet2012` has its features."""
    import tensorflow_datasets as tfds

    class Photographs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "photographs"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(num_classes=CLASSES),
                "file_name": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples("train"),
                "validation": self._generate_examples("val"),
            }

        def _generate_examples(self, split):
            for number, (data, label) in enumerate(rows(split)):
                name = f"{split}{number}.JPEG"
                yield number, {"image": io.BytesIO(data), "label": label, "file_name": name}

    Photographs(data_dir=str(root), file_format="array_record").download_and_prepare()


def write_tfrecord(root: pathlib.Path, stored: pathlib.Path, shards: int = 3) -> None:
    """The ArrayRecord set under `stored` as TFRecord files of several shards under `root`."""
    import tensorflow_datasets as tfds

    source, target = (at / "photographs" / "1.0.0" for at in (stored, root))
    target.mkdir(parents=True)
    builder = tfds.builder_from_directory(source)
    info = json.loads((source / "dataset_info.json").read_text()) | {"fileFormat": "tfrecord"}
    for split in info["splits"]:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        records = builder.as_data_source(split["name"], deserialize_method=raw)
        parts = np.array_split(np.arange(len(records)), shards)
        split["shardLengths"] = [str(len(part)) for part in parts]
        for number, part in enumerate(parts):
            name = f"photographs-{split['name']}.tfrecord-{number:05}-of-{shards:05}"
            writer = RecordWriter(str(target / name))
            for index in part:
                writer.write(records[int(index)])
            writer.close()
    (target / "dataset_info.json").write_text(json.dumps(info))
    (target / "features.json").write_bytes((source / "features.json").read_bytes())
