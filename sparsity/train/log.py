"""A run's metrics as JSON lines: appended, and cut back to what a checkpoint knows of."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparsity import disk


class Lines:
    """A file of JSON lines that is written through, so that a killed run loses nothing it emitted.

    size: bytes so far; what a checkpoint stores, so that a resumed run neither repeats nor skips.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        """Opens for appending; `size` first cuts the file back to as many bytes."""
        self.path = path
        if size is not None and path.exists():
            os.truncate(path, min(size, path.stat().st_size))
        self._file = path.open("ab", buffering=0)
        disk.sync(path.parent)
        self.size = self._file.tell()

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record. Raises OSError, with the file's name, where the disk is full."""
        line = f"{json.dumps(record)}\n".encode()
        # A disk that is full takes a part of the line before it refuses the rest.
        while line:
            with disk.naming(self.path):
                written = self._file.write(line) or 0
            line, self.size = line[written:], self.size + written

    def sync(self) -> None:
        """Brings what was written to the disk."""
        with disk.naming(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Ends writing."""
        self._file.close()


class Unwritten:
    """In place of `Lines`, where another process of the run writes them."""

    size = 0

    def write(self, record: Mapping[str, Any]) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, in order; a last line cut short by a kill is left out.

    Raises ValueError where another line is no record.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if line.endswith("\n"):
            yield _record(path, number, line)


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} of {path} is damaged, it holds no JSON: {error}") from None
    if not (hasattr(record, "keys") and {"event", "step"} <= record.keys()):
        raise ValueError(f"line {number} of {path} is damaged, it holds no record of a run")
    return record
