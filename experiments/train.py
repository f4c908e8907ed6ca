"""Launches one experiment, or resumes it.

    python -m experiments.train --config=configs/digits.py:magnitude --workdir=runs/digits
    python -m experiments.train --config=... --workdir=... --config.density=0.05 --config.seed=1
    python -m experiments.train --config=... --dry_run
    python -m experiments.train --config=... --workdir=... --profile=100:110

The directory holds the resolved config, a status, the metrics (JSON lines, and TensorBoard's files),
checkpoints, and at the end a summary and the plain sparse model. Launched again, a finished run does
nothing and an unfinished one goes on from its last checkpoint. SIGTERM or Ctrl-C saves and ends; what
was asked to end leaves with 128 and the signal's number, what diverged or failed with 1.

Several processes run one experiment where the cluster starts them together, or by hand with --coordinator,
--processes and --process (docs/cluster.md). They see one directory, which process 0 writes.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from experiments import command
from experiments.assembly.dry_run import described
from experiments.processes.crew import crew
from experiments.processes.joining import Joining
from experiments.processes.sameness import refuse_differing
from experiments.running.launch import Session, launch
from experiments.running.preemption import Preempted, Stop, listening
from sparsity.train.loop import Diverged

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sparsity" / "compiled"


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    _keep_compiled(str(CACHED.value))
    if DRY_RUN.value:
        print(described(CONFIG.value.to_dict()))
        return
    if not WORKDIR.value:
        raise ValueError("--workdir names the run's directory; --dry_run needs none")
    stop = Stop()
    with listening(stop):
        try:
            summary = _launched(stop)
        except Preempted as error:
            print(f"{WORKDIR.value}: {error}; launch it again to go on", file=sys.stderr)
            sys.exit(stop.code)
    if summary:
        print(json.dumps(summary, indent=1))


def _launched(stop: Stop) -> dict[str, Any] | None:
    """The run's summary, in the process that writes its directory."""
    config, flagged = CONFIG.value.to_dict(), _joining()
    profile = _steps(PROFILE.value)
    with crew(flagged, stop) as board:
        refuse_differing(board, {**config, "workdir": WORKDIR.value}, flagged.wait)
        writes = board.index == 0
        session = Session(stop=stop, progress=True, events=True, profile=profile, board=board)
        if not writes:
            print(
                f"process {board.index} of {board.count} computes; process 0 writes {WORKDIR.value}"
            )
            session = Session(say=lambda line: None, stop=stop, board=board)
        found = launch(config, Path(str(WORKDIR.value)), session)
    return found if writes else None


def _joining() -> Joining:
    return Joining(
        COORDINATOR.value,
        PROCESSES.value,
        PROCESS.value,
        wait=int(JOIN_TIMEOUT.value or 0),
        lost=int(HEARTBEAT_TIMEOUT.value or 0),
    )


def _keep_compiled(folder: str) -> None:
    """Lets JAX keep what it compiles, so that a restart does not compile again."""
    if folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _steps(text: str | None) -> tuple[int, int] | tuple[()]:
    if not text:
        return ()
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise ValueError(f"--profile is FIRST:END in steps, as in 100:110, not {text!r}")
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment's config file.")
    WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.")
    DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what would happen, and take no step.")
    PROFILE = flags.DEFINE_string("profile", None, "Steps to profile, FIRST:END.")
    COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
    PROCESSES = flags.DEFINE_integer("processes", None, "How many; 1 joins no others.")
    PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.")
    JOIN_TIMEOUT = flags.DEFINE_integer("join_timeout", 300, "Seconds for all to come.")
    HEARTBEAT_TIMEOUT = flags.DEFINE_integer(
        "heartbeat_timeout", 60, "Seconds of silence after which a process is lost."
    )
    CACHED = flags.DEFINE_string("cache", str(CACHE), "Keeps compiled programs; '' for nowhere.")
    flags.mark_flag_as_required("config")
    command.run(main, known=(ValueError, OSError, ImportError, Diverged))
