"""The outcomes of a family of runs: those that are missing are run, or only those that are done are read."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.running.workdir import Workdir
from experiments.running.workdir import read as read_file
from experiments.sweeps import pool
from experiments.sweeps.jobs import Job
from experiments.sweeps.live import Live
from experiments.sweeps.pool import Hooks, Outcome
from experiments.sweeps.slots import ANY, Wish, slots

# Takes the jobs of a family, and returns the outcomes by name.
Runner = Callable[[Sequence[Job]], dict[str, Outcome]]
ENDED = ("failed", "diverged")


def run(jobs: Sequence[Job], folder: Path, wish: Wish = ANY) -> dict[str, Outcome]:
    """By name the outcomes of all jobs, those that are missing run, with a live table."""
    unique = list({job.name: job for job in jobs}.values())
    ran: dict[str, Outcome] = {}
    if left := missing(unique, folder):
        devices = max(job.config.get("devices", 1) for job in left)
        places = slots(wish._replace(devices=devices))[: len(left)]
        with Live(folder, len(left)) as live:
            ran = pool.run(left, folder, places, Hooks(live.begun, live.ended))
    return read(unique, folder) | ran


def read(jobs: Sequence[Job], folder: Path) -> dict[str, Outcome]:
    """By name how the jobs have ended; of those that have not, that there is no outcome yet."""
    return {job.name: _read(job, Workdir(folder / job.name)) for job in jobs}


def _read(job: Job, here: Workdir) -> Outcome:
    if here.summary.exists():
        return Outcome(job, here.path, read_file(here.summary), "")
    status = read_file(here.status) if here.status.exists() else {}
    ended = status.get("status") in ENDED
    word = "Diverged: " if status.get("status") == "diverged" else ""
    return Outcome(job, here.path, {}, f"{word}{status.get('cause')}" if ended else "")


def named(names: Iterable[str], folder: Path) -> list[Outcome]:
    """How runs have ended that are known by their names alone."""
    return [_read(Job({}, {}), Workdir(folder / name)) for name in names]


def missing(jobs: Iterable[Job], folder: Path) -> list[Job]:
    """The jobs, each once, that are not done and have not diverged: those that a launch would run."""
    found = read(list({job.name: job for job in jobs}.values()), folder)
    return [o.job for o in found.values() if not o.summary and not o.cause.startswith("Diverged: ")]


def surroundings(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """What the runs that are done ran on, as the first of them has noted; {} where none is done."""
    for outcome in outcomes:
        status = Workdir(outcome.folder).status
        if outcome.summary and status.exists():
            noted = read_file(status)
            return {key: noted[key] for key in noted if key not in ("status", "cause")}
    return {}
