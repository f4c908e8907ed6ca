"""Records of TFRecord files are found and verified; what is damaged is named with its place."""

import numpy as np
import pytest
import tensorboardX.crc32c as independent
from tensorboardX.record_writer import RecordWriter

from sparsity.data import offsets as module
from sparsity.data.crc32c import crc32c
from sparsity.data.offsets import SUFFIX, offsets
from sparsity.data.tfrecord import read_at, starts

RECORDS = [b"", b"one", bytes(300), np.random.default_rng(0).bytes(70_000), b"last"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "set-train.tfrecord-00000-of-00001"
    writer = RecordWriter(str(path))
    for record in RECORDS:
        writer.write(record)
    writer.close()
    return path


@pytest.mark.parametrize(
    ("data", "value"),  # RFC 3720, B.4
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_checksums_are_the_published_ones(data, value):
    assert crc32c(data) == value


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 255, 256, 257, 4095, 65_535, 65_536, 65_537])
def test_checksums_are_those_of_an_independent_implementation(size):
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(memoryview(data)) == independent.crc32c(data)


def test_one_flipped_bit_changes_the_checksum_of_many_spans():
    data = bytearray(np.random.default_rng(0).bytes(200_000))
    before = crc32c(data)
    for place in (0, 3, 99_999, 199_999):
        data[place] ^= 1
        assert crc32c(data) != before
        data[place] ^= 1
    assert crc32c(data) == before


def test_records_come_back_at_their_offsets(file):
    (index,) = offsets([file])
    assert [read_at(file, int(at)) for at in index] == RECORDS
    assert list(starts(file)) == index.tolist()


def emptied(file):
    """The file with as many zeros in its place: no record of it can be found any more."""
    file.write_bytes(bytes(file.stat().st_size))


def test_a_second_index_is_read_from_the_sidecar(file):
    first = offsets([file])[0]
    emptied(file)
    np.testing.assert_array_equal(offsets([file])[0], first)
    file.with_name(file.name + SUFFIX).unlink()
    with pytest.raises(ValueError, match="no record at byte 0"):
        offsets([file])


@pytest.mark.parametrize(
    "change",
    [lambda data: data[:-3], lambda data: data[:30] + b"\x01" + data[31:], lambda data: b"other"],
)
def test_a_damaged_sidecar_is_made_anew(file, change):
    (first,) = offsets([file])
    sidecar = file.with_name(file.name + SUFFIX)
    whole = sidecar.read_bytes()
    sidecar.write_bytes(change(whole))
    np.testing.assert_array_equal(offsets([file])[0], first)
    assert sidecar.read_bytes() == whole


def test_the_sidecar_of_another_file_is_made_anew(file):
    offsets([file])
    writer = RecordWriter(str(file))
    writer.write(b"something else")
    writer.close()
    assert offsets([file])[0].tolist() == [0]


def test_indexing_that_was_stopped_goes_on_with_the_files_that_are_left(file, tmp_path):
    bad = tmp_path / "set-train.tfrecord-00001-of-00002"
    bad.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="00001-of-00002"):
        offsets([file, bad])
    assert file.with_name(file.name + SUFFIX).exists()
    assert not bad.with_name(bad.name + SUFFIX).exists()
    assert not [path for path in tmp_path.iterdir() if path.name.split(".")[-1].isdigit()]


def test_a_folder_that_cannot_be_written_to_has_its_index_in_the_cache(file, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    # A folder in the sidecar's place: even root cannot write a file there.
    file.with_name(file.name + SUFFIX).mkdir()
    (first,) = offsets([file])
    assert len(list((tmp_path / "cache").iterdir())) == 1
    emptied(file)
    np.testing.assert_array_equal(offsets([file])[0], first)


def cut(data, size):
    return data[: len(data) - size]


BAD = {
    "cut in the data": (lambda data: cut(data, 6), "at byte 70367 is cut short: 20 bytes"),
    "cut in the header": (lambda data: cut(data, 15), "at byte 70367 is cut short: 12 bytes"),
    "length": (lambda data: data[:16] + b"\x09" + data[17:], "no record at byte 16"),
    "text": (lambda data: b"no record at all", "no record at byte 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_whole_record_is_named_with_its_offset(file, case):
    change, words = BAD[case]
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ValueError) as error:
        list(starts(file))
    assert words in str(error.value) and str(file) in str(error.value)


def test_damaged_data_is_found_when_it_is_read(file):
    index = list(starts(file))
    data = bytearray(file.read_bytes())
    data[index[3] + 12 + 12_345] ^= 4
    file.write_bytes(data)
    assert list(starts(file)) == index
    with pytest.raises(ValueError, match=f"record at byte {index[3]} is damaged: its 70000 bytes"):
        read_at(file, index[3])
    assert read_at(file, index[4]) == b"last"


def test_a_file_cut_since_it_was_indexed_is_named_with_its_offset(file):
    index = list(starts(file))
    file.write_bytes(cut(file.read_bytes(), 1))
    with pytest.raises(ValueError, match=f"record at byte {index[4]} is cut short: 20 bytes .* 19"):
        read_at(file, index[4])
