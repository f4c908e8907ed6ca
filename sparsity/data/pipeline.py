"""Host pipelines, for sets that do not fit on the device: each step's batch, read by grain."""

from collections.abc import Callable
from typing import Protocol

import grain
import numpy as np

from sparsity.data.order import eval_batches, indices, steps_per_epoch
from sparsity.data.reading import Batches, Row, read


class Rows(Protocol):
    """A data set with random access; it must be safe to read from several threads."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Row: ...


def batches(
    source: Rows,
    seed: int,
    start: int,
    stop: int,
    batch: int,
    process: tuple[int, int] = (0, 1),
    workers: int = 8,
) -> Batches:
    """`drawn` from the rows of a random-access source, {name: array} as `tfds.source` or `rows` give."""
    row_at = lambda epoch, index: source[index]
    return drawn(row_at, len(source), seed, start, stop, batch, process, workers)


def drawn(
    row_at: Callable[[int, int], Row],
    n: int,
    seed: int,
    start: int,
    stop: int,
    batch: int,
    process: tuple[int, int] = (0, 1),
    workers: int = 8,
    processes: int = 0,
) -> Batches:
    """The batches of the steps start, ..., stop - 1, stacked from rows.

    What a step sees is `order.indices(seed, step, n, batch)`, whatever was read before: starting
    again at any step gives the same batches, also with another number of processes.

    Arguments:
      row_at: (epoch, index) -> the row {name: array} of one of n examples; called from threads.
      batch: examples in the global batch.
      process: (index, count) of this process: it gets the index-th of count equal parts of each
        global batch.
      workers, processes: threads and processes that read ahead, see `reading.read`.

    Raises:
      ValueError: when the processes do not divide the batch, for a process that does not exist, or
        steps and batches that do not (`order.indices`). Raised at the call.
    """
    local = _local(batch, process)
    if stop < start:
        raise ValueError(f"steps {start} to {stop} run backwards")
    indices(seed, start, n, batch)  # raises for what cannot be drawn
    per_epoch, first = steps_per_epoch(n, batch), process[0] * local

    def row(place: int) -> Row:
        step, offset = divmod(place, local)
        return row_at(step // per_epoch, int(indices(seed, step, n, batch)[first + offset]))

    return read(
        grain.MapDataset.range(start * local, stop * local).map(row), local, workers, processes
    )


def each(
    row_at: Callable[[int], Row],
    n: int,
    batch: int,
    process: tuple[int, int] = (0, 1),
    workers: int = 8,
    processes: int = 0,
) -> Batches:
    """All n examples in order, in batches of one size: of the last, what is left over has weight 0.

    row_at gives rows with a "weight"; the arguments, and what is raised, are otherwise those of
    `drawn`. Each example stands once with its own weight, over all processes.
    """
    local = _local(batch, process)
    places, weights = eval_batches(n, batch)

    def row(place: int) -> Row:
        step, offset = divmod(place, local)
        at = step, process[0] * local + offset
        found = row_at(int(places[at]))
        return {**found, "weight": found["weight"] * weights[at]}

    return read(grain.MapDataset.range(len(places) * local).map(row), local, workers, processes)


def rows(images: np.ndarray, labels: np.ndarray) -> list[Row]:
    """A set in memory as a source: {"image": (H, W, C), "label": ()} per row."""
    return [{"image": i, "label": label} for i, label in zip(images, labels, strict=True)]


def _local(batch: int, process: tuple[int, int]) -> int:
    """A process's part of a batch."""
    index, count = process
    if not 0 <= index < count:
        raise ValueError(f"process {index} of {count} does not exist")
    if batch % count:
        raise ValueError(f"a global batch of {batch} cannot be shared by {count} processes")
    return batch // count
