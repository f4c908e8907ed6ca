"""Rows read ahead by grain, in threads or in processes, and stacked into batches in their order."""

import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

Row = Mapping[str, Any]
Batches = Generator[dict[str, np.ndarray], None, None]


def read(places: grain.MapDataset, local: int, workers: int, processes: int = 0) -> Batches:
    """The rows of a dataset in order, `local` at a time; threads and processes end with the caller.

    workers: threads that read ahead, in each process; 0 reads in the caller's thread.
    processes: that share out the rows of each batch; 0 reads in this one. Threads do while decoding, which
      gives up Python's lock, takes most of the time; beyond some thousand pictures a second it is the
      lock that limits them. Whatever they are, the batches are the same.

    Raises ValueError, at the call, when the processes do not divide a batch.
    """
    if processes and local % processes:
        raise ValueError(f"{processes} processes cannot share out batches of {local} evenly")
    return _batches(places, local, workers, processes)


def _batches(places: grain.MapDataset, local: int, workers: int, processes: int) -> Batches:
    stream = _stream(places, local, workers, processes) if len(places) else iter(())
    try:
        while parts := [*itertools.islice(stream, max(1, processes))]:
            yield _joined(parts) if processes else parts[0]
    finally:
        if (close := getattr(stream, "close", None)) is not None:
            close()


def _stream(places: grain.MapDataset, local: int, workers: int, processes: int) -> Iterator[Any]:
    """Whole batches; of several processes the parts of each, one after the other."""
    count = max(1, processes)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * local // count)
    stream = places.to_iter_dataset(options).batch(local // count)
    if processes:
        # Grain looks at a flag of its own, which only a program that parses flags has parsed.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(processes, 2))
    return iter(stream)


def _joined(parts: Sequence[Row]) -> dict[str, np.ndarray]:
    """Process i of n has read the rows i, i + n, ...; copied, as what it sends lies in shared memory."""
    joined = {}
    for name, first in parts[0].items():
        stacked = np.stack([part[name] for part in parts], axis=1)
        joined[name] = stacked.reshape(-1, *np.shape(first)[1:])
    return joined
