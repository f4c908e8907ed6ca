"""Runs of a sweep on this machine: one process per core (or as many as asked), each run in its directory.

A run that fails or diverges says so in its own status and stops no other; what is done is skipped, and
what was cut off goes on.
"""

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from experiments.sweeps.points import Job

TRIES = 2  # of a run whose process died


class Outcome(NamedTuple):
    """How a run ended: its summary, or the cause why there is none."""

    job: Job
    folder: Path
    summary: dict[str, Any]
    cause: str


def run(
    jobs: Sequence[Job],
    folder: Path,
    workers: int = 0,
    ended: Callable[[Outcome], None] = lambda outcome: None,
) -> dict[str, Outcome]:
    """Runs every job in folder/<its name>, several at a time, and returns the outcomes by name.

    workers: processes; 0 takes one per core. Each is kept to its share of the cores: two runs side by
    side, each on one core, get more done than one after the other on both.
    ended: called with each outcome as it comes.
    """
    workers = min(workers or len(os.sched_getaffinity(0)), max(1, len(jobs)))
    outcomes: dict[str, Outcome] = {}
    tries = dict.fromkeys((job.name for job in jobs), 0)
    while left := [job for job in jobs if job.name not in outcomes]:
        begun: set[str] = set()
        for outcome in _pooled(left, folder, workers, begun):
            outcomes[outcome.job.name] = outcome
            ended(outcome)
        # A process that died took the pool with it; only those that were running are to blame.
        for job in left:
            if job.name in begun and job.name not in outcomes:
                tries[job.name] += 1
                if tries[job.name] == TRIES:
                    cause = "its process died (out of memory?)"
                    outcomes[job.name] = Outcome(job, folder / job.name, {}, cause)
                    ended(outcomes[job.name])
    return outcomes


def _pooled(jobs: Sequence[Job], folder: Path, workers: int, begun: set[str]) -> Iterator[Outcome]:
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    available = sorted(os.sched_getaffinity(0))
    for i in range(workers):
        cores.put(available[i::workers] or available)
    with concurrent.futures.ProcessPoolExecutor(workers, context, _prepare, (cores,)) as executor:
        waiting = list(reversed(jobs))
        running: dict[concurrent.futures.Future, Job] = {}
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop()
                begun.add(job.name)
                running[executor.submit(_launched, job.config, folder / job.name)] = job
            done, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
            for future in done:
                job = running.pop(future)
                try:
                    summary, cause = future.result()
                except BrokenProcessPool:
                    return
                yield Outcome(job, folder / job.name, summary, cause)


def _prepare(cores: Any) -> None:
    """A worker's own cores, before jax sees how many there are."""
    os.sched_setaffinity(0, cores.get())


def _launched(config: dict[str, Any], folder: Path) -> tuple[dict[str, Any], str]:
    from experiments.launch import Session, launch

    try:
        return launch(config, folder, Session(say=lambda text: None)), ""
    except Exception as error:  # noqa: BLE001 - whatever a run raises, the others go on
        return {}, f"{type(error).__name__}: {error}"
