"""The three stages of preparing click logs, each over pieces that can be done anew or left out.

    parse:  a block of text   -> parsed/000012.npy,     its columns, with parsed/000012.json
    choose: a category        -> vocabulary/05.npy,     the values that are kept
    encode: a parsed block    -> its place in rows.npy, and the columns are deleted

A piece is done when its last file has its name: what is cut off in the middle leaves none. What a piece was
made of is deleted when the piece is on the disk, so that a power cut loses no more than a kill. The functions
run in processes of their own and take names of files, not arrays.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sparsity.data.criteo.lines import CATEGORIES, COLUMNS, NUMBERS, parse
from sparsity.data.criteo.vocabulary import frequent, hashed, looked_up
from sparsity.disk import put, sync

PARSED, VOCABULARY, ROWS = "parsed", "vocabulary", "rows.npy"
KEPT_REASONS = 20  # bad lines of a block that are named; all are counted


class Piece(NamedTuple):
    """What is known of a parsed block.

    first: its first line. lines, rows: in the text, and those that are good. bad: how many are not.
    reasons: of the first of them, (line, reason). digest, ends: of the text up to its end. torn: whether
    the text ends within a line that is not good.
    """

    first: int
    lines: int
    rows: int
    bad: int
    reasons: tuple[tuple[int, str], ...]
    digest: str
    ends: int
    torn: bool


class Coding(NamedTuple):
    """How categories become numbers: buckets of a hash where `buckets` is given, else vocabularies."""

    floor: int
    buckets: int = 0


def columns_of(folder: Path, index: int) -> Path:
    """The file of a block's columns."""
    return folder / PARSED / f"{index:06}.npy"


def piece_of(folder: Path, index: int) -> Piece | None:
    """What is known of a block that was parsed before; None where it was not."""
    path = columns_of(folder, index).with_suffix(".json")
    if not path.exists():
        return None
    found = Piece(**json.loads(path.read_text()))
    return found._replace(reasons=tuple((line, reason) for line, reason in found.reasons))


def parse_block(folder: Path, index: int, text: bytes, first: int, digest: str, ends: int) -> Piece:
    """Parses a block into its files."""
    found = parse(text)
    reasons = tuple((first + line, reason) for line, reason in found.bad[:KEPT_REASONS])
    rows = found.columns.shape[1]
    torn = not text.endswith(b"\n") and found.lines - 1 in dict(found.bad)
    piece = Piece(first, found.lines, rows, len(found.bad), reasons, digest, ends, torn)
    path = columns_of(folder, index)
    save(path, found.columns)
    put({path.with_suffix(".json"): json.dumps(piece._asdict()).encode()})
    return piece


def choose_values(folder: Path, blocks: int, category: int, floor: int) -> int:
    """Writes the values of a category that are kept; returns how many there are."""
    path = vocabulary_of(folder, category)
    if not path.exists():
        parts = (_category(columns_of(folder, i), category) for i in range(blocks))
        save(path, frequent(parts, floor))
    return len(np.load(path, mmap_mode="r"))


def vocabulary_of(folder: Path, category: int) -> Path:
    """The file of a category's values that are kept."""
    return folder / VOCABULARY / f"{category + 1:02}.npy"


def encode_block(
    folder: Path, index: int, row: int, starts: tuple[int, ...], coding: Coding
) -> int:
    """Writes a block's rows at `row` of the array, deletes its columns, and returns how many there are."""
    path = columns_of(folder, index)
    columns = np.load(path)
    encoded = np.empty((columns.shape[1], COLUMNS), np.int32)
    encoded[:, 0] = columns[0] & 1
    encoded[:, 1 : 1 + NUMBERS] = columns[1 : 1 + NUMBERS].T
    for category in range(CATEGORIES):
        values = columns[1 + NUMBERS + category].view(np.uint32)
        there = (columns[0] >> (1 + category)) & 1 == 1
        rows = _coded(folder, category, values, there, coding)
        encoded[:, 1 + NUMBERS + category] = rows + starts[category]
    with (folder / ROWS).open("r+b") as file:
        # Written rather than mapped: mapped pages count as this process's memory.
        file.seek(header(folder / ROWS) + row * encoded.itemsize * COLUMNS)
        encoded.tofile(file)
    sync(folder / ROWS)
    path.unlink()
    return len(encoded)


def header(path: Path) -> int:
    """Bytes before the numbers of an .npy file."""
    return np.load(path, mmap_mode="r").offset


def save(path: Path, array: np.ndarray) -> None:
    """An .npy file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        np.save(file, array)
    sync(new)
    new.rename(path)


def _category(path: Path, category: int) -> np.ndarray:
    """The values of a category in a parsed block, of the rows that have one: uint32."""
    columns = np.load(path, mmap_mode="r")
    there = (columns[0] >> (1 + category)) & 1 == 1
    return np.asarray(columns[1 + NUMBERS + category]).view(np.uint32)[there]


def _coded(
    folder: Path, category: int, values: np.ndarray, there: np.ndarray, coding: Coding
) -> np.ndarray:
    if coding.buckets:
        return hashed(values, there, coding.buckets)
    return looked_up(values, there, np.load(vocabulary_of(folder, category)))
