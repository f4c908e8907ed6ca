"""The outcomes of a family of runs: those that are missing are run, or only those that are done are read."""

import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from experiments.sweeps import pool
from experiments.sweeps.points import Job
from experiments.sweeps.pool import Outcome


def run(jobs: Sequence[Job], folder: Path, workers: int = 0) -> dict[str, Outcome]:
    """By name the outcomes of all jobs, each run once, with a bar; those done before are not run again."""
    unique = list({job.name: job for job in jobs}.values())
    with tqdm(total=len(unique), unit="run", dynamic_ncols=True) as bar:

        def ended(outcome: Outcome) -> None:
            bar.update()
            if outcome.cause:
                bar.write(f"{outcome.job.name}: {outcome.cause}")

        return pool.run(unique, folder, workers, ended)


def read(jobs: Sequence[Job], folder: Path) -> dict[str, Outcome]:
    """By name the outcomes of the jobs that are done; of the others, that there is none yet."""
    found = {}
    for job in jobs:
        path = folder / job.name / "summary.json"
        summary = json.loads(path.read_text()) if path.exists() else {}
        found[job.name] = Outcome(job, path.parent, summary, "")
    return found
