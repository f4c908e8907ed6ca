"""Runs of a sweep on this machine: one process per slot, each run in its directory.

A run that fails or diverges says so in its own status and stops no other; what is done is skipped, and
what was cut off goes on.
"""

import collections
import concurrent.futures
import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from experiments.sweeps import launched
from experiments.sweeps.jobs import Job
from experiments.sweeps.slots import Slot

TRIES = 2  # of a run whose process died
DIED = "its process died (out of memory?)"


class Outcome(NamedTuple):
    """How a run ended: its summary, or the cause why there is none."""

    job: Job
    folder: Path
    summary: dict[str, Any]
    cause: str


Launch = Callable[[dict[str, Any], Path], tuple[dict[str, Any], str]]


class Hooks(NamedTuple):
    """What a pool calls: `begun` with each job as it starts, `ended` with each outcome as it comes.

    launch: runs a config in a directory, in another process, and returns its summary and the cause of
            its failure.
    """

    begun: Callable[[Job], None] = lambda job: None
    ended: Callable[[Outcome], None] = lambda outcome: None
    launch: Launch = launched.run


SILENT = Hooks()


def run(
    jobs: Iterable[Job], folder: Path, places: Sequence[Slot], hooks: Hooks = SILENT
) -> dict[str, Outcome]:
    """Runs every job in folder/<its name>, several at a time, and returns the outcomes by name.

    jobs may be drawn while others run: the next is taken when a slot is free. places: the slots. Each
    process is kept to its share of the cores: two runs side by side, each on one core, get more done than
    one after the other on both.
    """
    source = iter(jobs)
    outcomes: dict[str, Outcome] = {}
    tries: collections.Counter[str] = collections.Counter()
    lost: list[Job] = []
    while True:
        again, lost = lost, []
        for outcome in _pooled(itertools.chain(again, source), folder, places, hooks, lost):
            outcomes[outcome.job.name] = outcome
            hooks.ended(outcome)
        if not lost:
            return outcomes
        # A process that died took the pool with it; only those that were running are to blame.
        tries.update(job.name for job in lost)
        for job in [job for job in lost if tries[job.name] == TRIES]:
            launched.record(job.config, folder / job.name, DIED)
            outcomes[job.name] = Outcome(job, folder / job.name, {}, DIED)
            hooks.ended(outcomes[job.name])
        lost = [job for job in lost if tries[job.name] < TRIES]


def _pooled(
    jobs: Iterator[Job], folder: Path, places: Sequence[Slot], hooks: Hooks, lost: list[Job]
) -> Iterator[Outcome]:
    """The outcomes as they come; those that run when a process dies are put into `lost`."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for place in places:
        queue.put(place)
    count = len(places)
    with concurrent.futures.ProcessPoolExecutor(count, context, _prepare, (queue,)) as executor:
        running: dict[concurrent.futures.Future, Job] = {}
        while True:
            for job in itertools.islice(jobs, count - len(running)):
                hooks.begun(job)
                running[executor.submit(hooks.launch, job.config, folder / job.name)] = job
            if not running:
                return
            done, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
            for future in done:
                job = running.pop(future)
                try:
                    summary, cause = future.result()
                except BrokenProcessPool:
                    lost += [job, *running.values()]
                    return
                yield Outcome(job, folder / job.name, summary, cause)


def _prepare(queue: Any) -> None:
    """A worker takes its slot, before jax sees what there is, and ends with the process that began it."""
    queue.get().take()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A sweep that is killed leaves no run behind that would keep its directory from the next call."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
