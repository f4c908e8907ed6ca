"""What the commands that run a family share: their flags, their folders, and who runs what is missing."""

import json
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from experiments import command
from experiments.sweeps import commands, outcomes, slurm
from experiments.sweeps.jobs import Job
from experiments.sweeps.outcomes import Runner
from experiments.sweeps.pool import Outcome
from experiments.sweeps.slots import GIB, Wish


class Flags(NamedTuple):
    """The holders of the flags' values."""

    config: Any
    workdir: Any
    out: Any
    workers: Any
    per_device: Any
    gib: Any
    run: Any
    print: Any
    slurm: Any


class Call(NamedTuple):
    """One call of such a command.

    name: of the config's file. config: plain data. folder: of the runs. stem: of the pages.
    command: that repeats it. runner: takes jobs, returns outcomes. pages: whether pages are written.
    """

    name: str
    config: dict[str, Any]
    folder: Path
    stem: Path
    command: str
    runner: Runner
    pages: bool


def define(workdir: str) -> Flags:
    """Defines the flags of a command whose runs go under `workdir`; once per process."""
    config = config_flags.DEFINE_config_file("config", None, "The family's config file.")
    flags.mark_flag_as_required("config")
    return Flags(
        config,
        flags.DEFINE_string("workdir", workdir, "Where the runs go."),
        flags.DEFINE_string("out", "docs/results", "Where the pages go."),
        flags.DEFINE_integer("workers", 0, "Runs at a time; 0: as there is room.", lower_bound=0),
        flags.DEFINE_integer("per_device", 1, "Runs at a time on one GPU.", lower_bound=1),
        flags.DEFINE_float("gib", GIB, "Memory of a run on CPU cores, GiB.", lower_bound=0.01),
        flags.DEFINE_bool("run", True, "False: write what is done."),
        flags.DEFINE_bool(
            "print", False, "Print the commands of what is missing, and run nothing."
        ),
        flags.DEFINE_string("slurm", None, "Hand what is missing to sbatch, with these options."),
    )


def called(flag: Flags, program: str) -> Call:
    """The call that the flags make of experiments.<program>."""
    file = command.file_of("config")
    name = Path(file).stem
    folder = Path(str(flag.workdir.value)) / name
    return Call(
        name,
        json.loads(flag.config.value.to_json()),
        folder,
        Path(str(flag.out.value)) / name,
        f"python -m experiments.{program} --config={shlex.quote(file)}",
        partial(_runner(flag), folder=folder),
        not flag.print.value,
    )


def _runner(flag: Flags) -> Callable[..., dict[str, Outcome]]:
    if flag.slurm.value is not None:
        if flag.print.value:
            return partial(_show_scripts, options=flag.slurm.value)
        return partial(_submit, options=flag.slurm.value)
    if flag.print.value:
        return _print
    if not flag.run.value:
        return outcomes.read
    return partial(outcomes.run, wish=wish(flag))


def wish(flag: Flags) -> Wish:
    """How the flags ask for runs to be packed."""
    return Wish(flag.workers.value, flag.per_device.value, gib=flag.gib.value)


def _print(jobs: Sequence[Job], folder: Path) -> dict[str, Outcome]:
    """Prints a command for each run that is missing."""
    for line in commands.lines(outcomes.missing(jobs, folder), folder):
        print(line)
    return outcomes.read(jobs, folder)


def _show_scripts(jobs: Sequence[Job], folder: Path, options: str) -> dict[str, Outcome]:
    """Prints the scripts that would be handed to sbatch."""
    for text in slurm.scripts(outcomes.missing(jobs, folder), folder, options):
        print(text)
    return outcomes.read(jobs, folder)


def _submit(jobs: Sequence[Job], folder: Path, options: str) -> dict[str, Outcome]:
    """Hands what is missing to sbatch, unless some of it is in the queue; returns what is done so far."""
    if left := outcomes.missing(jobs, folder):
        if count := slurm.queued(folder):
            print(f"{count} tasks of {slurm.name(folder)} are in the queue: nothing is handed in")
        else:
            for said in slurm.submit(slurm.prepared(left, folder, options)):
                print(said)
    return outcomes.read(jobs, folder)
