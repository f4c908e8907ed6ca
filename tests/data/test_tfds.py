"""A set that TFDS stored as ArrayRecord is read back without TensorFlow."""

import json
import pathlib
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from sparsity.data import load, load_splits
from sparsity.data.pipeline import batches
from sparsity.data.tfds import source


def by_number(images):
    return images[np.argsort(images[:, 0, 0, 0])]


def test_a_stored_set_comes_back(scans):
    root, images = scans
    for split, dataset in load_splits("tfds:scans", ("train", "test"), root=root).items():
        # TFDS shuffles what it stores; the first pixel says which image it is
        np.testing.assert_array_equal(by_number(dataset.images), images[split])
        np.testing.assert_array_equal(dataset.labels, dataset.images[:, 0, 0, 0] % 3)
        assert dataset.classes == 3 and dataset.labels.dtype == np.int32


def test_rows_of_a_source_are_those_of_the_set(scans):
    root, _ = scans
    dataset, rows = load("tfds:scans", split="train", root=root), source("scans", "train", root)
    assert len(rows) == len(dataset.labels) == 20
    np.testing.assert_array_equal(rows[4]["image"], dataset.images[4])
    assert rows[4]["label"] == dataset.labels[4] and rows[4]["label"].dtype == np.int32


def test_a_stored_set_feeds_the_host_pipeline(scans):
    root, images = scans
    seen = list(batches(source("scans", "train", root), 0, 0, 4, 5, workers=2))
    pixels = np.concatenate([batch["image"] for batch in seen])
    np.testing.assert_array_equal(by_number(pixels), images["train"])
    assert seen[0]["label"].dtype == np.int32


def test_the_newest_version_is_read_unless_one_is_named(scans, tmp_path):
    root, _ = scans
    for version in ("1.0.0", "1.2.0", "1.10.0"):
        shutil.copytree(root / "scans/1.0.0", tmp_path / "scans" / version)
        info = tmp_path / "scans" / version / "dataset_info.json"
        info.write_text(json.dumps(json.loads(info.read_text()) | {"version": version}))
    assert "1.10.0" in source("scans", "train", tmp_path).where
    assert "1.2.0" in source("scans:1.2.0", "train", tmp_path).where


def test_a_config_is_named(scans, tmp_path):
    root, _ = scans
    shutil.copytree(root / "scans/1.0.0", tmp_path / "scans/small/1.0.0")
    info = tmp_path / "scans/small/1.0.0/dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"configName": "small"}))
    assert len(source("scans/small", "train", tmp_path)) == 20
    with pytest.raises(ValueError, match="name one of its configs: tfds:scans/small"):
        source("scans", "train", tmp_path)


def test_without_a_test_split_the_validation_split_serves(stored):
    rows = [(np.full((8, 8, 1), i, np.uint8), i % 3) for i in range(6)]
    root = stored("held", {"train": rows, "validation": rows[:4]})
    assert len(load("tfds:held", split="test", root=root).labels) == 4


def test_tensorflow_is_not_imported(scans):
    code = (
        "import sys; from sparsity.data import load; "
        f"load('tfds:scans', split='train', root={str(scans[0])!r}); "
        "print('tensorflow' in sys.modules)"
    )
    run = partial(subprocess.run, capture_output=True, text=True, check=True)
    done = run([sys.executable, "-c", code], cwd=pathlib.Path(__file__).parents[2])
    assert done.stdout.strip() == "False"
