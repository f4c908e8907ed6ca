"""A run that is asked to end saves where it stands, ends within seconds, and goes on to the same bits."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import pytest

from experiments.running.launch import Session, launch
from sparsity.train import checkpoint

ROOT = pathlib.Path(__file__).parents[2]
ARGUMENT = "grid,model=cnn,plan=acdc"
ASKED = {"steps": 120, "density": "0.5", "log_every": 10, "evaluate_every": 30, "settle": 1}
SECONDS = 30  # a few; the machine of the tests may have other things to do
quiet = Session(say=lambda text: None)


@pytest.fixture(scope="module")
def whole(config_of, tmp_path_factory):
    """The directory of the run that was never stopped."""
    folder = tmp_path_factory.mktemp("preempted") / "whole"
    launch(config_of(ARGUMENT, **ASKED), folder, quiet)
    return folder


def ended(folder, program, number):
    """(status, seconds) of a process that gets the signal while it compiles a program, and runs it first."""
    environment = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": str(jax.device_count()),
        "JAX_LOG_COMPILES": "1",
    }
    flags = [f"--config.{name}={value}" for name, value in ASKED.items()]
    command = [sys.executable, "-m", "experiments.train", f"--config=configs/digits.py:{ARGUMENT}"]
    command += [f"--workdir={folder}", "--cache=", *flags]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as process:
        for line in process.stderr:
            if f"Compiling jit({program})" in line:
                break
        process.send_signal(number)
        asked = time.monotonic()
        words = process.stderr.read()
        status = process.wait()
    assert "Traceback" not in words, words
    return status, time.monotonic() - asked


# The first step's compilation (the step itself may still be done), an evaluation, the parts of a mask
# update; each with the steps at which they come first under AC/DC's plan.
WINDOWS = [
    ("train", (0, 1)),
    pytest.param("evaluate", (30,), marks=pytest.mark.slow),
    ("tick", (12,)),
    pytest.param("restart", (18,), marks=pytest.mark.slow),
    pytest.param("settle", (12,), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("program", "saved"), WINDOWS)
def test_a_signal_ends_the_run_within_seconds_and_nothing_is_lost(
    program, saved, whole, config_of, tmp_path
):
    number = signal.SIGINT if program == "evaluate" else signal.SIGTERM
    folder, said = tmp_path / "run", []
    status, seconds = ended(folder, program, number)
    assert status == 128 + number and seconds < SECONDS
    found = json.loads((folder / "status.json").read_text())
    assert (found["status"], found["cause"]) == ("preempted", signal.Signals(number).name)
    assert checkpoint.latest(folder / "checkpoints") in saved
    launch(config_of(ARGUMENT, **ASKED), folder, Session(say=said.append))
    assert any("going on from step" in text for text in said)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
