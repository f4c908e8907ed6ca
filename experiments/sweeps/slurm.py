"""A family of runs as one SLURM array: a script and a list of configs, as plain files that can be read.

The script holds nothing of this process: each task launches the run that stands at its place in the list.
A task that is told to end saves and is queued again, and goes on from there.
"""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.running.workdir import write
from experiments.sweeps.jobs import Job

LONGEST = (
    1000  # tasks of an array; a cluster's own limit (MaxArraySize) is 1001 unless it was raised
)
NOTICE = 120  # seconds between SLURM's request to end and the end


def scripts(jobs: Sequence[Job], folder: Path, options: str = "") -> list[str]:
    """The text of each script: one for every thousand jobs. options: of sbatch, as on its command line."""
    cut = [jobs[i : i + LONGEST] for i in range(0, len(jobs), LONGEST)]
    return [_script(len(part), folder, number, options) for number, part in enumerate(cut)]


def _script(count: int, folder: Path, number: int, options: str) -> str:
    given = [f"#SBATCH {option}" for option in shlex.split(options)]
    listed, inside = (
        shlex.quote(str(path.resolve())) for path in (_listed(folder, number), folder)
    )
    task = f"{shlex.quote(sys.executable)} -m experiments.sweeps.task"
    place = '--index="$SLURM_ARRAY_TASK_ID"'
    return "\n".join(
        [
            "#!/bin/bash",
            f"#SBATCH --job-name={name(folder)}",
            f"#SBATCH --array=0-{count - 1}",
            f"#SBATCH --output={folder.resolve()}/slurm/%A_%a.txt",
            "#SBATCH --requeue",
            f"#SBATCH --signal=TERM@{NOTICE}",
            *given,
            f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
            # exec, so that the request to end reaches the run and not the shell.
            f"exec {task} --jobs={listed} --folder={inside} {place}",
            "",
        ]
    )


def name(folder: Path) -> str:
    """What the arrays of a family are called in the queue."""
    return f"sparsity-{folder.name}"


def prepared(jobs: Sequence[Job], folder: Path, options: str = "") -> list[Path]:
    """Writes the scripts and the lists of configs into folder/slurm; returns the scripts' paths."""
    (folder / "slurm").mkdir(parents=True, exist_ok=True)
    paths = []
    for number, text in enumerate(scripts(jobs, folder, options)):
        part = jobs[number * LONGEST : (number + 1) * LONGEST]
        write(_listed(folder, number), {"jobs": [[job.name, job.config] for job in part]})
        paths.append(_listed(folder, number).with_suffix(".sh"))
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def queued(folder: Path) -> int:
    """How many tasks of this family are in the queue; they would be run twice if they were handed in again."""
    _refuse_without("squeue")
    said = _asked(["squeue", "--me", "--noheader", "--array", f"--name={name(folder)}"])
    return len(said.splitlines())


def submit(paths: Sequence[Path]) -> list[str]:
    """Hands the scripts to sbatch, and returns what it said. Raises ValueError where it refuses one."""
    _refuse_without("sbatch")
    return [_asked(["sbatch", str(path)]).strip() for path in paths]


def _refuse_without(program: str) -> None:
    if not shutil.which(program):
        raise ValueError(f"there is no {program} here; --print shows what would be handed to SLURM")


def _asked(command: Sequence[str]) -> str:
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise ValueError(f"{shlex.join(command)}: {found.stderr.strip()}")
    return found.stdout


def _listed(folder: Path, number: int) -> Path:
    return folder / "slurm" / f"jobs-{number}.json"


def job_at(listed: Path, index: int) -> tuple[str, dict]:
    """The name and the config at a place of a list. Raises ValueError for a place that it lacks."""
    found = json.loads(listed.read_text(encoding="utf-8"))["jobs"]
    if not 0 <= index < len(found):
        raise ValueError(f"{listed} has {len(found)} runs, and none at {index}")
    run, config = found[index]
    return run, config
