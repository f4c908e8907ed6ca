"""Preparing gives each line its integers, from wherever it was cut off, and refuses other texts."""

import gzip
import hashlib
import json

import numpy as np
import pytest

from sparsity.data import tables
from sparsity.data.criteo import sets
from sparsity.data.criteo.lines import MISSING
from sparsity.data.criteo.prepare import prepare
from sparsity.data.criteo.stages import Coding, vocabulary_of


def decoded(order, found):
    """The lines that the rows stand for; what is seldom as "?"."""
    rows = np.load(order.folder / "rows.npy").tolist()
    starts = np.cumsum([0, *found["vocabulary"]]).tolist()
    kept = [np.load(vocabulary_of(order.folder, c)).tolist() for c in range(26)]
    names = [["", "?", *(f"{value:08x}" for value in values)] for values in kept]
    return [
        [
            str(row[0]),
            *("" if n == MISSING else str(n) for n in row[1:14]),
            *(names[c][row[14 + c] - starts[c]] for c in range(26)),
        ]
        for row in rows
    ]


def expected(text, floor):
    """The lines, with "?" for what comes less often than the floor."""
    lines = [line.split("\t") for line in text.decode().splitlines()]
    for c in range(14, 40):
        values, counts = np.unique([line[c] for line in lines], return_counts=True)
        seldom = set(values[counts < floor].tolist()) - {""}
        for line in lines:
            line[c] = "?" if line[c] in seldom else line[c]
    return lines


@pytest.mark.parametrize("floor", [1, 3, 50])
def test_rows_stand_for_the_lines(ordered, logs, floor):
    order = ordered(coding=Coding(floor))
    found = prepare(order)
    assert decoded(order, found) == expected(logs, floor)
    assert found["text"]["sha256"] == hashlib.sha256(logs).hexdigest()
    assert found["text"]["bytes"] == len(logs) and found["text"]["lines"] == 3000


def rows_of(order):
    return (order.folder / "rows.npy").read_bytes(), (order.folder / "prepared.json").read_text()


def test_processes_and_compression_change_nothing(ordered, prepared, logs):
    several = ordered(folder="several", workers=2)
    prepare(several)
    assert rows_of(several) == rows_of(prepared)
    packed = ordered(gzip.compress(logs), folder="packed", name="train.txt.gz")
    prepare(packed)
    assert rows_of(packed)[0] == rows_of(prepared)[0]


class Killed(Exception):
    pass


def cut_off(order, when):
    """Prepares until `when` is true of the stages that were told so far, one entry per piece."""
    told = []

    def kill(stage, done, total):
        told.append(stage)
        if when(told):
            raise Killed

    with pytest.raises(Killed):
        prepare(order, kill)


@pytest.mark.parametrize("piece", [1, 5, 12, 20, 38, 39, 45])
def test_cut_off_anywhere_it_ends_the_same(ordered, prepared, piece):
    order, seen = ordered(folder=f"cut{piece}"), []
    cut_off(order, lambda told: len(told) == piece)
    prepare(order, lambda stage, done, total: seen.append((stage, done, total)))
    assert rows_of(order) == rows_of(prepared)
    assert seen[-1] == ("encode", 3000, 3000)
    assert not (order.folder / "parsed").exists()


def test_what_is_done_is_not_done_again(ordered, prepared):
    stamp = (prepared.folder / "rows.npy").stat().st_mtime_ns
    prepare(prepared, lambda *_: pytest.fail("it worked"))
    assert (prepared.folder / "rows.npy").stat().st_mtime_ns == stamp


def test_hashing_gives_equal_values_equal_rows(ordered, logs):
    order = ordered(coding=Coding(1, 8))
    found = prepare(order)
    rows = np.load(order.folder / "rows.npy")
    assert found["vocabulary"] == [10] * 26
    lines = [line.split("\t") for line in logs.decode().splitlines()]
    for c in range(26):
        pairs = {(line[14 + c], row) for line, row in zip(lines, rows[:, 14 + c], strict=True)}
        assert len(pairs) == len({value for value, _ in pairs})
        within = {row - 10 * c for _, row in pairs}
        assert within <= set(range(10)) and 1 not in within


def test_the_prepared_set_is_mapped(prepared):
    rows, numbers, entries = sets.read(
        sets.CRITEO._replace(folder=prepared.folder.name), prepared.folder.parent
    )
    assert isinstance(rows, np.memmap) and rows.shape == (3000, 40) and numbers == 13
    assert rows[:, 14:].max() < entries and rows[:, 14:].min() >= 0


def lines(logs, change):
    parts = logs.decode().splitlines(keepends=True)
    change(parts)
    return "".join(parts).encode()


def test_malformed_lines_are_counted_up_to_a_limit(ordered, logs, prepared):
    def spoil(parts):
        parts.insert(1000, "only one column\n")
        parts.insert(2000, parts[0].replace("\t", "\tx", 1))

    text = lines(logs, spoil)
    found = prepare(ordered(text, folder="spoilt", limit=2))
    assert found["malformed"]["count"] == 2 and found["rows"] == 3000
    assert found["malformed"]["first"][0] == [1001, "1 columns instead of 40"]
    assert found["malformed"]["first"][1][0] == 2001
    with pytest.raises(
        ValueError, match="2 malformed lines so far, more than the limit of 1: line 1001"
    ):
        prepare(ordered(text, folder="limited", limit=1))


FOREIGN = {
    "39 columns": (
        lambda b: b"\n".join(x[2:] for x in b.split(b"\n")),
        "columns are those of test",
    ),
    "UTF-16": (lambda b: b.decode().encode("utf-16"), "the file is UTF-16"),
    "UTF-16 without a mark": (lambda b: b.decode().encode("utf-16-le"), "first NUL at byte 1"),
    "a mark": (lambda b: b.decode().encode("utf-8-sig"), "UTF-8 with a byte order mark"),
    "commas": (lambda b: b.replace(b"\t", b","), "line 1: 1 columns instead of 40"),
    "carriage returns": (lambda b: b.replace(b"\n", b"\r\n"), "line 1: C26 is"),
    "zip": (lambda b: b"PK\x03\x04" + b, "a ZIP archive"),
    "tar": (lambda b: b[:257] + b"ustar" + b[262:], "a tar archive: unpack it"),
    "torn": (lambda b: b[:-150], "torn: it ends in the middle of line 3000"),
    "torn gzip": (lambda b: gzip.compress(b)[:-3000], "ends before its text does"),
    "damaged gzip": (
        lambda b: gzip.compress(b)[:5000] + b"\0" * 50 + gzip.compress(b)[5050:],
        "the gzip file is damaged",
    ),
    "empty": (lambda b: b"", "is empty"),
    "no lines": (lambda b: b"a" * 200_000, "a line of more than 65536 bytes"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_other_texts_are_refused(ordered, logs, case):
    change, words = FOREIGN[case]
    with pytest.raises(ValueError) as error:
        prepare(ordered(change(logs)))
    assert words in str(error.value) and "train.txt" in str(error.value)


def test_other_settings_and_other_texts_are_refused(ordered, prepared, logs):
    with pytest.raises(ValueError, match="begun with something else: floor 3 then and 4 now"):
        prepare(prepared._replace(coding=Coding(4)))
    with pytest.raises(ValueError, match="size .* then and"):
        prepare(ordered(logs[:100_000]))
    with pytest.raises(FileNotFoundError, match="no such file"):
        prepare(prepared._replace(source=prepared.source.with_name("none.txt")))


def test_a_text_that_changed_halfway_is_refused(ordered, logs):
    order = ordered()
    cut_off(order, lambda told: True)
    changed = lines(logs, lambda parts: parts.__setitem__(0, parts[0].replace("0", "1", 1)))
    with pytest.raises(ValueError, match="it differs at or before line"):
        prepare(ordered(changed))


def test_rows_that_were_lost_halfway_are_not_taken_for_zeros(ordered):
    order = ordered()
    cut_off(order, lambda told: told.count("encode") == 4)
    (order.folder / "rows.npy").unlink()
    with pytest.raises(ValueError, match="rows.npy is gone, and . blocks were in it alone"):
        prepare(order)
    assert not (order.folder / "prepared.json").exists()


DAMAGE = {
    "cut": ("rows.npy", lambda b: b[:-40], "holds 480088 bytes of 480128"),
    "no json": ("prepared.json", lambda b: b[:30], "is damaged"),
    "later": (
        "prepared.json",
        lambda b: json.dumps({**json.loads(b), "format": 9}).encode(),
        "format 9",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_sets_are_refused(prepared, case):
    name, change, words = DAMAGE[case]
    path = prepared.folder / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=words):
        sets.read(sets.CRITEO._replace(folder=prepared.folder.name), prepared.folder.parent)


def test_logs_of_another_size_are_cut_in_the_same_ratio_and_it_is_said(prepared):
    (prepared.folder.parent / "criteo").symlink_to(prepared.folder)
    words = "3,000 rows here and 45,840,617 as published: it is cut 2,160/540/300 in place of 33,003,326/"
    with pytest.warns(UserWarning, match=words):
        found = tables.read("criteo", prepared.folder.parent)
    assert [part.size for part in found.values()] == [2160, 540, 300]


def test_an_absent_set_says_how_to_prepare_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="experiments.prepare_criteo --source=train.txt"):
        sets.read(sets.CRITEO, tmp_path)
