"""Files that are absent, cut short or of another format are refused in words, by every reader."""

import gzip
import json
import shutil
import sys

import numpy as np
import pytest

from sparsity.data import load

IMAGES, LABELS = "mnist/train-images-idx3-ubyte", "mnist/train-labels-idx1-ubyte"


def rewrite(root, name, change):
    path = root / name
    path.write_bytes(change(path.read_bytes()))


BAD_IDX = {
    "cut": (IMAGES, lambda b: b[:-7], "expected 916 bytes for dimensions (30, 6, 5), found 909"),
    "long": (
        IMAGES,
        lambda b: b + b"\0",
        "expected 916 bytes for dimensions (30, 6, 5), found 917",
    ),
    "empty": (IMAGES, lambda b: b"", "not an IDX file: it starts with nothing"),
    "header": (IMAGES, lambda b: b[:9], "expected a header of 16 bytes, found 9 in all"),
    "text": (IMAGES, lambda b: b"hello", "not an IDX file: it starts with 68 65 6c 6c"),
    "floats": (IMAGES, lambda b: b"\0\0\x0d" + b[3:], "expected the magic number 00 00 08 03"),
    "labels": (IMAGES, lambda b: b"\0\0\x08\x01\0\0\0\0", "3 dimensions), found 00 00 08 01"),
    "gzip cut": (IMAGES, lambda b: gzip.compress(b)[:-20], "cut short or broken"),
    "gzip head": (IMAGES, lambda b: b"\x1f\x8b", "gzip stream of 2 bytes is cut short"),
    "gzip bits": (
        IMAGES,
        lambda b: gzip.compress(b, 0)[:100] + b"\xff\xfe" + gzip.compress(b, 0)[102:],
        "cut short or broken",
    ),
    "huge": (IMAGES, lambda b: b[:4] + b"\xff" * 12, "expected 7922816"),
    "count": (LABELS, lambda b: b[:7] + b"\x1d" + b[8:-1], "30 images, but 29 labels in train-lab"),
    "label": (LABELS, lambda b: b[:-1] + b"\x0a", "expected labels 0 to 9, found 10"),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_bad_idx_files_are_refused(mnist_root, case):
    name, change, words = BAD_IDX[case]
    rewrite(mnist_root, name, change)
    with pytest.raises(ValueError) as error:
        load("mnist", split="train", root=mnist_root)
    assert words in str(error.value) and "train-" in str(error.value)


def test_a_set_without_images_is_refused(mnist_root, idx):
    rewrite(mnist_root, IMAGES, lambda _: idx(np.zeros((0, 6, 5))))
    rewrite(mnist_root, LABELS, lambda _: idx(np.zeros(0)))
    with pytest.raises(ValueError, match="'mnist' is empty"):
        load("mnist", split="train", root=mnist_root)


def test_test_images_of_another_shape_are_refused(mnist_root, idx):
    path = mnist_root / "mnist/t10k-images-idx3-ubyte"
    path.write_bytes(idx(np.zeros((10, 7, 7))))
    with pytest.raises(ValueError, match=r"training images are \(6, 5, 1\).*\(7, 7, 1\)"):
        load("mnist", split="test", root=mnist_root)


BATCH = "cifar-10-batches-bin/data_batch_1.bin"


@pytest.mark.parametrize("size", [0, 30_729_999, 30_730_001])
def test_bad_sizes_of_cifar_are_refused(cifar_root, size):
    with open(cifar_root / BATCH, "r+b") as file:
        file.truncate(size)
    words = f"data_batch_1.bin: expected 30730000 bytes .10000 records of 3073., found {size}"
    with pytest.raises(ValueError, match=words):
        load("cifar10", split="train", root=cifar_root)


def test_a_bad_label_of_cifar_is_refused(cifar_root):
    with open(cifar_root / BATCH, "r+b") as file:
        file.seek(3073 * 12)
        file.write(b"\x0a")
    with pytest.raises(ValueError, match="expected labels 0 to 9, found 10 in record 12"):
        load("cifar10", split="train", root=cifar_root)


def swap(name, old, new):
    def change(folder):
        path = folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def records(change):
    def apply(folder):
        (path,) = folder.glob("scans-train.array_record-*")
        change(path)

    return apply


BAD_TFDS = {
    # at a chunk's boundary the records after it come back as nothing at all
    "half": (records(lambda p: p.write_bytes(p.read_bytes()[:65536])), "of 20 records, number 0"),
    "tail": (records(lambda p: p.write_bytes(p.read_bytes()[:-9])), "of 20 records, number 0"),
    "text": (records(lambda p: p.write_text("hello" * 99)), "ArrayRecord file should be at least"),
    "gone": (records(lambda p: p.unlink()), "No such file"),
    "info": (swap("dataset_info.json", "{", "["), "not a data set of TFDS"),
    "features": (swap("features.json", "{", "["), "not a data set of TFDS"),
    "format": (
        swap("dataset_info.json", "array_record", "tfrecord"),
        "expected ArrayRecord, found",
    ),
    "split": (swap("dataset_info.json", '"train"', '"other"'), "no split 'train'; there are"),
}


@pytest.mark.parametrize("case", BAD_TFDS)
def test_bad_folders_of_tfds_are_refused(scans, tmp_path, case):
    change, words = BAD_TFDS[case]
    shutil.copytree(scans[0] / "scans", tmp_path / "scans")
    change(tmp_path / "scans/1.0.0")
    with pytest.raises(ValueError) as error:
        load("tfds:scans", split="train", root=tmp_path)
    assert words in str(error.value) and str(tmp_path) in str(error.value)


def test_images_of_several_shapes_do_not_fit_in_memory(stored):
    rows = [(np.zeros((8, 8 + i, 1), np.uint8), 0) for i in range(3)]
    root = stored("ragged", {"train": rows}, shape=(None, None, 1))
    with pytest.raises(ValueError, match="images of one shape; read others through the host"):
        load("tfds:ragged", split="train", root=root)


def test_records_without_a_label_are_refused(stored):
    root = stored("unlabelled", {"train": [(np.zeros((8, 8, 1), np.uint8), -1)]})
    with pytest.raises(ValueError, match="record 0 has no label"):
        load("tfds:unlabelled", split="train", root=root)


def test_sets_with_two_images_are_refused(stored):
    rows = {"train": [(np.zeros((8, 8, 1), np.uint8), 0)]}
    root = stored("pairs", rows, extra=("other",))
    with pytest.raises(ValueError, match="expected one Image and one ClassLabel, found"):
        load("tfds:pairs", split="train", root=root)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist", ["train-images-idx3-ubyte or .gz", "Download", "mnist"]),
        ("fashion_mnist", ["train-labels-idx1-ubyte", "zalandoresearch", "fashion-mnist"]),
        ("cifar10", ["data_batch_5.bin", "cifar-10-binary.tar.gz", "unpack it in"]),
        ("tfds:nothing", ["VERSION/dataset_info.json", 'tfds.builder("nothing", data_dir=']),
        ("tfds:nothing/at:1.0.0", ["1.0.0/dataset_info.json", 'tfds.builder("nothing/at"']),
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_absent_sets_say_what_to_download_and_where(tmp_path, monkeypatch, name, words, given):
    monkeypatch.delenv("SPARSITY_DATA", raising=False)
    with pytest.raises(FileNotFoundError) as error:
        load(name, split="train", root=tmp_path if given else None)
    place = f"not found in {tmp_path}" if given else "pass root or set SPARSITY_DATA"
    assert all(word in str(error.value) for word in [*words, place])


def test_only_the_files_that_are_absent_are_named(cifar_root):
    (cifar_root / "cifar-10-batches-bin/data_batch_4.bin").unlink()
    with pytest.raises(FileNotFoundError, match="'cifar10': data_batch_4.bin: not found"):
        load("cifar10", split="train", root=cifar_root)


BAD_REQUESTS = [
    ({"name": "mnits"}, "no data set is called 'mnits'; did you mean 'mnist'.*tfds:NAME"),
    ({"name": 3}, "no data set is called 3"),
    ({"name": "critoe"}, "no data set is called 'critoe'; did you mean 'criteo'"),
    ({"name": "criteo"}, "'criteo' is a table, not images"),
    ({"name": "tfds:../mnist"}, "expected NAME, NAME/CONFIG"),
    ({"name": "tfds:mnist:latest"}, "expected NAME, NAME/CONFIG"),
    ({"split": "tset"}, "no split is called 'tset'; did you mean 'test'"),
    ({"split": "validation"}, 'the split "validation" needs a share'),
    ({"validation": 1.0}, "not at 1.0"),
    ({"validation": -0.5}, "not at -0.5"),
    ({"validation": 1e-6}, "takes no image"),
    ({"validation": 0.5, "seed": -1}, "seed and epoch are at least 0"),
]


@pytest.mark.parametrize(("request_", "words"), BAD_REQUESTS)
def test_bad_requests_are_refused(request_, words):
    with pytest.raises(ValueError, match=words):
        load(**({"name": "digits", "split": "train"} | request_))


def test_digits_without_their_library_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)  # as if it were not there
    with pytest.raises(ImportError, match=r"install sparsity\[experiments\]"):
        load("digits", split="train")


def test_metadata_are_plain_json(scans):
    """The damage above is done to what TFDS really writes."""
    info = json.loads((scans[0] / "scans/1.0.0/dataset_info.json").read_text())
    assert info["fileFormat"] == "array_record"
    assert [split["name"] for split in info["splits"]] == ["train", "test"]
