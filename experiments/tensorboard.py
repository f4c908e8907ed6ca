"""A run's metrics for TensorBoard, beside the JSON lines that are the record."""

from collections.abc import Iterator
from pathlib import Path

from tensorboardX import SummaryWriter

from sparsity.train.loop import Record


class Events:
    """Writes each number of a record as a scalar; what a resumed run writes again replaces the old."""

    def __init__(self, folder: Path, step: int) -> None:
        """Opens a file in the folder; events at `step` or later of earlier files are purged."""
        purge = step if folder.exists() else None
        self._writer = SummaryWriter(str(folder), purge_step=purge, flush_secs=10)

    def write(self, record: Record) -> None:
        """Adds a record of the loop."""
        for name, value in _scalars(record):
            self._writer.add_scalar(name, value, record["step"])

    def scalar(self, name: str, value: float, step: int) -> None:
        """Adds a number that is no part of the record, such as the speed."""
        self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Ends writing."""
        self._writer.close()


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
