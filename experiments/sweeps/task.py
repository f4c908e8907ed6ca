"""One task of a SLURM array: launches the run at its place in a list, or goes on with it.

python -m experiments.sweeps.task --jobs=FOLDER/slurm/jobs-0.json --folder=FOLDER --index=3
"""

import os
import subprocess
import sys
from pathlib import Path

from absl import flags

from experiments import command
from experiments.running.launch import Session, launch
from experiments.running.preemption import Preempted, Stop, listening
from experiments.sweeps import launched
from experiments.sweeps.slurm import job_at


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    name, config = job_at(Path(str(JOBS.value)), INDEX.value)
    folder, stop = Path(str(FOLDER.value)) / name, Stop()
    with listening(stop):
        try:
            launch(config, folder, Session(stop=stop))
        except Preempted as error:
            print(f"{folder}: {error}", file=sys.stderr)
            _requeue()
            sys.exit(stop.code)
        except Exception as error:
            launched.record(config, folder, f"{type(error).__name__}: {error}")
            raise


def _requeue() -> None:
    """Asks SLURM to run this task again; where it is no task, nothing."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{word}_ID") for word in ("JOB", "TASK"))
    if array and task:
        subprocess.run(["scontrol", "requeue", f"{array}_{task}"], check=False)


if __name__ == "__main__":
    JOBS = flags.DEFINE_string("jobs", None, "The list of configs.", required=True)
    FOLDER = flags.DEFINE_string("folder", None, "Where the runs go.", required=True)
    INDEX = flags.DEFINE_integer("index", None, "The place in the list.", required=True)
    command.run(main, known=(ValueError, OSError))
