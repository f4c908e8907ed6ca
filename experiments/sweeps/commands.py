"""The command line that launches one run of a family by itself: for printing, and for other machines."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.sweeps.jobs import ARGUMENT, Job


def lines(jobs: Iterable[Job], folder: Path) -> list[str]:
    """A command per job, in order."""
    return [line(job, folder) for job in jobs]


def line(job: Job, folder: Path) -> str:
    """The command that runs a job in folder/<its name>, as a shell reads it.

    Raises ValueError for a field that a command line cannot set: one whose value holds a mapping.
    """
    argument = f":{job.point[ARGUMENT]}" if ARGUMENT in job.point else ""
    fields = {field: value for field, value in job.point.items() if field != ARGUMENT}
    words = [
        f"--config={job.file}{argument}",
        f"--workdir={folder / job.name}",
        *(f"--config.{field}={_value(field, value)}" for field, value in fields.items()),
    ]
    return f"python -m experiments.train {' '.join(map(shlex.quote, words))}"


def _value(field: str, value: Any) -> str:
    if isinstance(value, Mapping) or (
        isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value)
    ):
        raise ValueError(
            f"{field} is {value!r}, which no command line can set; run it by the sweep"
        )
    if isinstance(value, list | tuple):
        return repr(tuple(value))
    return value if isinstance(value, str) else repr(value)
