"""Runs of several real processes on this machine, of which none is left behind."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from experiments.assembly.assemble import assemble
from experiments.running.workdir import Workdir
from sparsity.train import checkpoint
from sparsity.units.partition import leaves

ROOT = pathlib.Path(__file__).parents[3]
LOST = 6  # seconds of silence after which a process is lost
PATIENCE = 200  # seconds for anything at all; the machine of the tests may have other things to do

# `experiments.train`, after it has asked Linux (PR_SET_PDEATHSIG) to be killed where the tests are.
TRAIN = (
    "import ctypes, runpy; ctypes.CDLL(None).prctl(1, 9); "
    "runpy.run_module('experiments.train', run_name='__main__', alter_sys=True)"
)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def started(
    commands: list[list[str]], folder: pathlib.Path, each: int
) -> Iterator[list[subprocess.Popen]]:
    """A process per list of flags of `experiments.train`, each with `each` devices and a group of its own.

    What the i-th says goes to the file <i>.txt in the folder. All are killed at the end.
    """
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(each)}
    folder.mkdir(parents=True, exist_ok=True)
    running: list[subprocess.Popen] = []
    try:
        for i, flags in enumerate(commands):
            with (folder / f"{i}.txt").open("ab") as file:
                command = [sys.executable, "-c", TRAIN, *flags]
                where = {"cwd": ROOT, "env": environment, "start_new_session": True}
                running.append(subprocess.Popen(command, stdout=file, stderr=file, **where))
        yield running
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def commands(given: list[str], run: pathlib.Path, count: int, *more: str) -> list[list[str]]:
    """The flags of each of `count` processes that run one config in a directory; those of one alone."""
    shared = [*given, f"--workdir={run}", f"--cache={run.parent / 'cache'}", *more]
    if count == 1:
        return [shared]
    joined = [f"--coordinator=127.0.0.1:{free_port()}", f"--processes={count}"]
    joined += [f"--heartbeat_timeout={LOST}", f"--join_timeout={PATIENCE}"]
    return [[*shared, *joined, f"--process={i}"] for i in range(count)]


def ended(processes: list[subprocess.Popen]) -> list[int]:
    """Their exit statuses."""
    until = time.monotonic() + PATIENCE
    return [process.wait(timeout=max(0.0, until - time.monotonic())) for process in processes]


def said(folder: pathlib.Path) -> str:
    """What all of them have said."""
    files = sorted(folder.glob("*.txt"))
    return "\n".join(f"--- {file.name}\n{file.read_text()}" for file in files)


def whole(given: list[str], run: pathlib.Path, count: int, each: int) -> pathlib.Path:
    """The directory of a run that `count` processes have brought to its end."""
    words = run.with_name(f"{run.name}-said")
    with started(commands(given, run, count), words, each) as processes:
        assert ended(processes) == [0] * count, said(words)
    return run


def wait_for(processes: list[subprocess.Popen], there: Callable[[], bool], words: pathlib.Path):
    """Until something has come about, while all of them run."""
    until = time.monotonic() + PATIENCE
    while not there():
        assert all(process.poll() is None for process in processes), said(words)
        assert time.monotonic() < until, said(words)
        time.sleep(0.02)


def saved(run: pathlib.Path) -> int:
    """The newest step that has been saved; 0 where none is."""
    return checkpoint.latest(Workdir(run).checkpoints) or 0


def status(run: pathlib.Path) -> dict:
    """The run's status file."""
    return json.loads(Workdir(run).status.read_text())


def agreement(one: pathlib.Path, other: pathlib.Path) -> tuple[float, float]:
    """(largest difference of a logged loss, share of units that both keep or both drop)."""
    losses, masks = [], []
    for run in (one, other):
        lines = Workdir(run).metrics.read_text().splitlines()
        found = [json.loads(line) for line in lines]
        losses.append([r["loss"] for r in found if r["event"] == "train"])
        state = state_of(run)
        masks.append(np.concatenate([m.ravel() for path, m in state.items() if "/masks/" in path]))
    return float(np.abs(np.subtract(*losses)).max()), float((masks[0] == masks[1]).mean())


def state_of(run: pathlib.Path) -> dict[str, np.ndarray]:
    """Every leaf of the last checkpoint, restored in this process."""
    experiment = assemble(json.loads(Workdir(run).config.read_text()))
    fresh = experiment.shared.programs.create(jax.random.key(0), experiment.inputs)
    restored, _, notes = checkpoint.restore(
        Workdir(run).checkpoints, experiment.placement.put(fresh)
    )
    assert notes == []
    return {path: np.asarray(leaf) for path, leaf in leaves(restored).items()}
