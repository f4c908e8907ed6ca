"""The same photographs come out of every form in which they lie, as functions of seed, step and picture."""

import pickle
import shutil
from typing import NamedTuple

import numpy as np
import pytest

from sparsity.data import epoch_order, indices
from sparsity.data.crops import middle_part
from sparsity.data.decode import decoded
from sparsity.data.stream import Stream
from sparsity.data.streams import PUBLISHED, Known, streamed
from sparsity.data.tfds import stored
from tests.data import photographs

FORMS = ("folder", "array_record", "tfrecord")
SIDE = 24
N, SCORED = photographs.SIZES["train"], photographs.SIZES["val"]


@pytest.fixture(scope="session")
def roots(tmp_path_factory):
    """A root of each form."""
    made = {form: tmp_path_factory.mktemp(form) for form in FORMS}
    photographs.write_folder(made["folder"])
    photographs.write_array_record(made["array_record"])
    photographs.write_tfrecord(made["tfrecord"], made["array_record"])
    return made


class Splits(NamedTuple):
    train: Stream
    test: Stream

    @property
    def sizes(self):
        return Known(self.train.size, self.test.size, self.train.classes)


def opened(roots, form, **options):
    name = f"{'folder' if form == 'folder' else 'tfds'}:photographs"
    return Splits(*streamed(name, root=roots[form], side=SIDE, workers=2, **options))


def everything(batches):
    return {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_pictures(roots, form):
    found = opened(roots, form)
    assert found.sizes == Known(N, SCORED, photographs.CLASSES)
    for stream, split in ((found.train, "train"), (found.test, "val")):
        pictures = [stream.pictures[i] for i in range(stream.size)]
        assert sorted((p.data, p.label) for p in pictures) == sorted(photographs.rows(split))
        assert len({p.where for p in pictures}) == len(pictures)
        assert ".jpg" in pictures[0].where.lower() or ".jpeg" in pictures[0].where.lower()
        again = pickle.loads(pickle.dumps(stream.pictures))
        assert [again[i] for i in range(stream.size)] == pictures


@pytest.mark.parametrize("form", FORMS)
def test_a_step_sees_the_pictures_of_the_order_each_in_its_own_part(roots, form):
    stream = opened(roots, form).train
    (batch,) = stream.training(5, 2, 3, 6)
    assert batch["image"].shape == (6, SIDE, SIDE, 3) and batch["image"].dtype == np.uint8
    expected = [stream.pictures[int(i)].label for i in indices(5, 2, N, 6)]
    assert batch["label"].tolist() == expected and batch["label"].dtype == np.int32


def test_resuming_at_any_step_gives_the_same_bits(roots):
    stream = opened(roots, "tfrecord").train
    whole = list(stream.training(1, 0, 6, 4))
    for start in (1, 3, 4):
        again = list(stream.training(1, start, 6, 4))
        for one, other in zip(whole[start:], again, strict=True):
            assert all(one[k].tobytes() == other[k].tobytes() for k in one)


def test_an_epoch_shows_every_picture_otherwise_than_the_last(roots):
    stream = opened(roots, "folder").train
    batches = list(stream.training(0, 0, 2 * N, 1))
    orders = [epoch_order(0, epoch, N).tolist() for epoch in (0, 1)]
    first, second = batches[:N], batches[N:]
    images = {i: first[orders[0].index(i)]["image"] for i in range(N)}
    again = {i: second[orders[1].index(i)]["image"] for i in range(N)}
    assert all((images[i] != again[i]).any() for i in range(N))


def test_without_augmentation_training_sees_the_middle(roots):
    stream = opened(roots, "folder", augment=False).train
    (batch,) = stream.training(0, 0, 1, 4)
    for image, i in zip(batch["image"], indices(0, 0, N, 4), strict=True):
        expected = decoded(stream.pictures[int(i)], middle_part, SIDE)
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("count", [2, 3])
def test_the_parts_of_all_processes_are_the_global_batch(roots, count):
    found = opened(roots, "folder")
    for read in (
        lambda p: found.train.training(0, 1, 3, 6, p),
        lambda p: found.test.evaluation(6, p),
    ):
        whole = list(read((0, 1)))
        parts = zip(*(list(read((i, count))) for i in range(count)), strict=True)
        for one, split in zip(whole, parts, strict=True):
            joined = everything(split)
            assert all(one[k].tobytes() == joined[k].tobytes() for k in one)


READS = {
    "training": lambda stream: stream.training(1, 1, 6, 4),
    "evaluation": lambda stream: stream.evaluation(4),
}


@pytest.mark.parametrize("what", ["training", pytest.param("evaluation", marks=pytest.mark.slow)])
def test_processes_that_read_ahead_change_nothing(roots, what):
    alone, shared = (opened(roots, "tfrecord", processes=count).train for count in (0, 2))
    for one, other in zip(READS[what](alone), READS[what](shared), strict=True):
        assert all(one[k].tobytes() == other[k].tobytes() for k in one)
    with pytest.raises(ValueError, match="2 processes cannot share out batches of 5 evenly"):
        shared.training(0, 0, 1, 5)


def test_what_ends_a_process_that_reads_is_said(broken):
    """With the name of the picture, though another process has met it."""
    roots, bad = broken
    with pytest.raises(ValueError, match="pictures cannot be decoded") as error:
        list(opened(roots, "folder", processes=2).train.training(0, 0, 4, 4))
    assert any(str(path) in str(error.value) for path in bad)


@pytest.mark.parametrize("batch", [1, 3, 7, 10])
def test_an_evaluation_sees_every_picture_once(roots, batch):
    stream = opened(roots, "array_record").test
    batches = list(stream.evaluation(batch))
    assert {len(b["label"]) for b in batches} == {batch}
    found = everything(batches)
    assert found["weight"].tolist() == [1.0] * SCORED + [0.0] * (-SCORED % batch)
    labels = [stream.pictures[i].label for i in range(SCORED)]
    assert found["label"][:SCORED].tolist() == labels


def test_a_validation_share_is_cut_from_the_training_set(roots):
    found = opened(roots, "folder", validation=0.3)
    held = everything(list(found.test.evaluation(4)))["weight"].sum()
    assert found.sizes == Known(10, 3, photographs.CLASSES) and held == 3
    rows = [*found.train.rows, *found.test.rows]
    assert sorted(rows) == list(range(N))
    assert found.train.pictures is found.test.pictures


@pytest.fixture
def broken(roots, tmp_path):
    """A folder of which two pictures do not decode."""
    shutil.copytree(roots["folder"], tmp_path, dirs_exist_ok=True)
    paths = sorted((tmp_path / "photographs").glob("*/*/*"))
    train = [path for path in paths if "/train/" in str(path)]
    bad = [train[0], train[4], next(path for path in paths if "/val/" in str(path))]
    for path in bad:
        path.write_bytes(path.read_bytes()[:400])
    return {"folder": tmp_path}, bad


def test_undecodable_pictures_are_named_counted_and_limited(broken, caplog):
    roots, bad = broken
    with pytest.raises(ValueError) as error:
        list(opened(roots, "folder", undecodable=1).train.training(0, 0, N, 1))
    assert "2 pictures cannot be decoded, and 1 may be (data.undecodable)" in str(error.value)
    assert all(str(path) in str(error.value) for path in bad[:2])
    assert sum("cannot be decoded" in record.message for record in caplog.records) == 2


def test_within_the_limit_the_next_picture_stands_in(broken):
    roots, _ = broken
    stream = opened(roots, "folder", undecodable=2, augment=False).train
    batches = list(stream.training(0, 0, 2 * N, 1))
    order = epoch_order(0, 0, N).tolist()
    for number in (0, 4):
        image = batches[order.index(number)]["image"]
        np.testing.assert_array_equal(image, batches[order.index(number + 1)]["image"])
    assert len(stream.undecoded.found) == 2  # though each was met twice


def test_an_undecodable_picture_is_in_no_sum_of_an_evaluation(broken):
    roots, _ = broken
    found = everything(list(opened(roots, "folder", undecodable=1).test.evaluation(4)))
    assert found["weight"].sum() == SCORED - 1
    with pytest.raises(ValueError, match="1 pictures cannot be decoded, and 0 may be"):
        list(opened(roots, "folder").test.evaluation(4))


def shard(root, number=1):
    return root / f"photographs/1.0.0/photographs-train.tfrecord-{number:05}-of-00003"


def info(old, new):
    def change(root):
        path = root / "photographs/1.0.0/dataset_info.json"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def flipped(root):
    data = bytearray(shard(root).read_bytes())
    data[500] ^= 1
    shard(root).write_bytes(data)


BAD = {
    "cut": (lambda r: shard(r).write_bytes(shard(r).read_bytes()[:-50]), "cut short"),
    "gone": (lambda r: shard(r).unlink(), "1 of 3 files are not there"),
    "text": (lambda r: shard(r).write_text("no record at all"), "no record at byte 0"),
    "another": (lambda r: shutil.copy(shard(r, 0), shard(r)), "where dataset_info.json says 4"),
    "name": (info('"photographs"', '"imagenette"'), "expected the set 'photographs', found"),
    "form": (info("tfrecord", "riegeli"), "expected ArrayRecord or TFRecord"),
    "split": (info('"train"', '"other"'), "no split 'train'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_root_that_holds_something_else_is_refused(roots, tmp_path, case):
    change, words = BAD[case]
    shutil.copytree(roots["tfrecord"], tmp_path, dirs_exist_ok=True)
    change(tmp_path)
    with pytest.raises(ValueError) as error:
        opened({"tfrecord": tmp_path}, "tfrecord")
    assert words in str(error.value) and str(tmp_path) in str(error.value)


def test_a_damaged_record_ends_the_reading_with_its_place(roots, tmp_path):
    shutil.copytree(roots["tfrecord"], tmp_path, dirs_exist_ok=True)
    flipped(tmp_path)
    stream = opened({"tfrecord": tmp_path}, "tfrecord").train
    with pytest.raises(ValueError, match=r"tfrecord-00001-of-00003: the record at byte 0 is dam"):
        list(stream.training(0, 0, N, 1))


def test_a_set_of_another_size_than_is_published_is_refused(roots, tmp_path):
    shutil.copytree(roots["folder"] / "photographs", tmp_path / "imagenet2012")
    with pytest.raises(
        ValueError, match="imagenet2012 has 1,281,167 pictures in 1000 .* here are 13"
    ):
        streamed("folder:imagenet2012", root=tmp_path)


def test_imagenets_test_set_has_no_labels_so_its_validation_set_is_scored(roots, tmp_path):
    for name in ("imagenet2012", "other"):
        shutil.copytree(roots["tfrecord"] / "photographs", tmp_path / name)
        path = tmp_path / name / "1.0.0/dataset_info.json"
        text = path.read_text().replace('"photographs"', f'"{name}"')
        path.write_text(text.replace('"name": "train"', '"name": "test"'))
    assert stored("imagenet2012", "test", tmp_path).split == "validation"
    assert stored("other", "test", tmp_path).split == "test"


def test_published_sizes_are_imagenets():
    assert PUBLISHED["imagenet2012"] == Known(1_281_167, 50_000, 1000)
    assert Known.of("tfds:imagenet2012:5.1.0", 0.1) == Known(1_153_051, 128_116, 1000)
    assert Known.of("tfds:photographs") is None


FOLDERS = {
    "no pictures": (lambda root: [p.unlink() for p in root.glob("train/*/*")], "no pictures"),
    "strange": (lambda root: (root / "val/zebra").mkdir(), "the first is 'zebra'"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_holds_something_else_is_refused(roots, tmp_path, case):
    shutil.copytree(roots["folder"], tmp_path, dirs_exist_ok=True)
    FOLDERS[case][0](tmp_path / "photographs")
    with pytest.raises(ValueError, match=FOLDERS[case][1]):
        opened({"folder": tmp_path}, "folder")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tfds:photographs", "dataset_info.json"),
        ("folder:photographs", "photographs/train/CLASS/ and "),
    ],
)
def test_an_absent_set_says_what_to_put_where(tmp_path, name, words):
    with pytest.raises(FileNotFoundError, match=words):
        streamed(name, root=tmp_path)


@pytest.mark.parametrize("name", ["digits", "folder:", "tfd:x", 3])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="There are: tfds:NAME, folder:NAME"):
        streamed(name)


def test_a_share_that_leaves_nothing_is_refused(roots):
    with pytest.raises(ValueError, match="holding out 0.01 of 13 pictures leaves nothing"):
        opened(roots, "folder", validation=0.01)
