"""Launches one experiment, or resumes it.

    python -m experiments.train --config=configs/digits.py:magnitude --workdir=runs/digits
    python -m experiments.train --config=... --workdir=... --config.density=0.05 --config.seed=1
    python -m experiments.train --config=... --dry_run
    python -m experiments.train --config=... --workdir=... --profile=100:110

The directory holds the resolved config, a status, the metrics (JSON lines, and TensorBoard's files),
checkpoints, and at the end a summary and the plain sparse model. Launched again, a finished run does
nothing and an unfinished one goes on from its last checkpoint. SIGTERM or Ctrl-C saves and ends; what
was asked to end leaves with 128 and the signal's number, what diverged or failed with 1.
"""

import json
import os
import re
import sys
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from experiments import command
from experiments.assembly.dry_run import described
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
    session = Session(stop=stop, progress=True, events=True, profile=_steps(PROFILE.value))
    with listening(stop):
        try:
            summary = launch(CONFIG.value.to_dict(), Path(str(WORKDIR.value)), session)
        except Preempted as error:
            print(f"{WORKDIR.value}: {error}; launch it again to go on", file=sys.stderr)
            sys.exit(stop.code)
    print(json.dumps(summary, indent=1))


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
    CACHED = flags.DEFINE_string("cache", str(CACHE), "Keeps compiled programs; '' for nowhere.")
    flags.mark_flag_as_required("config")
    command.run(main, known=(ValueError, OSError, ImportError, Diverged))
