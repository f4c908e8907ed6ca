"""Records of runs as files for other programs: CSV and Parquet."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from sparsity.named import unknown

SUFFIXES = (".csv", ".parquet")


def write(path: Path, records: Sequence[Mapping[str, Any]]) -> int:
    """Writes a row per record, a column per field, and returns how many columns there are.

    Blank or null where a record lacks a field.

    Raises ValueError for a suffix that is none of SUFFIXES, before anything is written.
    """
    if path.suffix not in SUFFIXES:
        raise unknown("form of an export", path.suffix, SUFFIXES)
    fields = dict.fromkeys(field for record in records for field in record)
    columns = {field: _column([r.get(field) for r in records]) for field in fields}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.table(columns), path)
        return len(columns)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    path.write_text(out.getvalue(), encoding="utf-8")
    return len(columns)


def _column(values: Sequence[Any]) -> list[Any]:
    """Values of one type: numbers together, and where they are of several, or lists, their texts."""
    plain = [json.dumps(v) if isinstance(v, list | dict) else v for v in values]
    kinds = {type(value) for value in plain if value is not None}
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in plain]
    return [None if v is None else str(v) for v in plain] if len(kinds) > 1 else plain
