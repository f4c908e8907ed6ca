"""A run's metrics as JSON lines: appended, and cut back to what a checkpoint knows of."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


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
        self.size = self._file.tell()

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends one record."""
        line = f"{json.dumps(record)}\n".encode()
        # A disk that is full takes a part of the line before it refuses the rest.
        while line:
            written = self._file.write(line) or 0
            line, self.size = line[written:], self.size + written

    def sync(self) -> None:
        """Brings what was written to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Ends writing."""
        self._file.close()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, in order; a last line cut short by a kill is left out."""
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)
