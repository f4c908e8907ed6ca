"""Adult (Census Income 1994): 32,561 people, 6 whole numbers and 8 categories, who earn above 50K or not."""

import csv
from pathlib import Path

import numpy as np

from sparsity.data.criteo.lines import MISSING
from sparsity.data.files import Origin, find

NUMBERS, CATEGORIES = (0, 2, 4, 10, 11, 12), (1, 3, 5, 6, 7, 8, 9, 13)
COLUMNS = 15
LABELS = {"<=50K": 0, ">50K": 1}
UNKNOWN = "?"
ADULT = Origin(
    "adult",
    "adult",
    "Download adult.data (UCI Machine Learning Repository, Adult) and put it into {place}",
)


def read(root: Path | None) -> tuple[np.ndarray, int, int]:
    """Rows int32 (N, 15): label, 6 numbers, 8 rows of the embedding table; 6; and the rows of that table.

    Each category has one row for what is not known and one per value, in alphabetical order. A first
    line of names is passed over.

    Raises:
      FileNotFoundError: when the file is not there.
      ValueError: for a line of other columns, a label or number that is none, with its line.
    """
    (path,) = find(root, ADULT, ["adult.data"])
    try:
        lines = list(csv.reader(path.read_text("ascii").splitlines(), skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected comma-separated ASCII: {error}") from None
    numbered = [(i, line) for i, line in enumerate(lines, 1) if line and line[0] != "age"]
    if not numbered:
        raise ValueError(f"{path} has no rows")
    known = np.array([_row(path, i, line) for i, line in numbered], np.int64)
    columns, entries = [known[:, 0], *known[:, 1:].T], 0
    for place in CATEGORIES:
        values = sorted({line[place] for _, line in numbered} - {UNKNOWN})
        code = {UNKNOWN: entries, **{value: entries + 1 + k for k, value in enumerate(values)}}
        columns.append(np.array([code[line[place]] for _, line in numbered]))
        entries += 1 + len(values)
    return np.stack(columns, 1).astype(np.int32), len(NUMBERS), entries


def _row(path: Path, number: int, line: list[str]) -> list[int]:
    """The label and the numbers of a line."""
    if len(line) != COLUMNS:
        raise ValueError(f"{path}, line {number}: {len(line)} columns instead of {COLUMNS}")
    if line[-1] not in LABELS:
        raise ValueError(f"{path}, line {number}: the label is {line[-1]!r}, not <=50K or >50K")
    try:
        return [LABELS[line[-1]], *(_number(line[place]) for place in NUMBERS)]
    except ValueError:
        raise ValueError(f"{path}, line {number}: a number among {line} is none") from None


def _number(text: str) -> int:
    return int(MISSING) if text == UNKNOWN else int(text)
