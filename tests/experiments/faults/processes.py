"""Runs in processes of their own, as a user launches them."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[3]
TRAIN = ("-m", "experiments.train")


def flags(argument: str, *changes: str) -> list[str]:
    """Those of `experiments.train`, for a config of digits with fields changed ("steps=9")."""
    return [f"--config=configs/digits.py:{argument}", *[f"--config.{c}" for c in changes]]


def start(
    given: Sequence[str],
    run: pathlib.Path,
    cache: pathlib.Path,
    program: Sequence[str] = TRAIN,
    pipes: Sequence[int] = (),
) -> subprocess.Popen:
    """A launch of the run, which says what it says into a file beside it.

    given: flags. cache: the folder of what is compiled. pipes: file numbers that the process inherits.
    """
    where = [f"--workdir={run}", f"--cache={cache}"]
    with said(run).open("ab") as file:
        return subprocess.Popen(
            [sys.executable, *program, *given, *where],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=pipes,
            stdout=file,
            stderr=file,
        )


def said(run: pathlib.Path) -> pathlib.Path:
    """The file that holds what a run's launches have said."""
    return run.with_name(f"{run.name}.txt")


def whole(given: Sequence[str], run: pathlib.Path, cache: pathlib.Path) -> pathlib.Path:
    """The run's directory, after a launch that has come to its end."""
    code = start(given, run, cache).wait(timeout=300)
    assert code == 0, said(run).read_text()
    return run
