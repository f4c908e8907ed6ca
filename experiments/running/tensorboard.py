"""A run's metrics for TensorBoard, beside the JSON lines that are the record."""

import platform
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from sparsity.disk import naming
from sparsity.train.loop import Record

# Its classes are made at import, and no type checker knows them.
PROTO: Any = event_pb2
SECONDS = 10.0  # between two times that the file is brought to the disk


class Events:
    """Writes each number of a record as a scalar; what a resumed run writes again replaces the old.

    It writes in the caller's thread, since tensorboardX's own thread dies where the disk is full, and
    whoever hands it the next number then waits for ever. Raises OSError where it can't be written.
    """

    def __init__(self, folder: Path, step: int, kept: Iterable[Record] = ()) -> None:
        """Opens a file in the folder; events at `step` or later of earlier files are purged.

        kept: the records of `step` that the run has already, and does not emit again.
        """
        resumed = folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._flushed = folder, time.monotonic()
        # Viewers read the files in the order of their names.
        name = f"events.out.tfevents.{int(time.time())}.{platform.node()}.{time.time_ns()}"
        self._file = RecordWriter(str(folder / name))
        self._write(PROTO.Event(file_version="brain.Event:2"))
        if resumed:
            self._write(
                PROTO.Event(step=step, session_log=PROTO.SessionLog(status=PROTO.SessionLog.START))
            )
        for record in kept:
            self.write(record)

    def write(self, record: Record) -> None:
        """Adds a record of the loop."""
        for name, value in _scalars(record):
            self.scalar(name, value, record["step"])

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds a number, also one that is no part of the record, such as the speed."""
        self._write(PROTO.Event(step=step, summary=scalar(name, value)))

    def close(self) -> None:
        """Ends writing."""
        with naming(self._folder):
            self._file.close()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        with naming(self._folder):
            self._file.write(event.SerializeToString())
            if time.monotonic() - self._flushed >= SECONDS:
                self._flushed = time.monotonic()
                self._file.flush()


def _scalars(record: Record) -> Iterator[tuple[str, float]]:
    event = record["event"]
    if event == "tick":
        yield "plan/share_of_target_sparsity", record["share"]
        for group, numbers in record["groups"].items():
            yield from ((f"masks/{name}/{group}", value) for name, value in numbers.items())
        return
    for name, value in record.items():
        if isinstance(value, float | int) and name != "step":
            yield f"{event}/{name}", value
