"""A run that goes on under other versions or on another number of cores says so."""

import contextlib
import os

import jax
import pytest

from experiments.assembly.assemble import assemble
from experiments.running.launch import Session, launch
from experiments.running.workdir import Workdir
from sparsity.train import checkpoint, log

RUN = {"steps": 20, "save_every": 8}


class Stopped(Exception):
    pass


@pytest.fixture
def stopped(config_of, tmp_path, monkeypatch):
    """The config and the directory of a run that was stopped behind its first save."""
    config, run, write = config_of(**RUN, log_every=10), Workdir(tmp_path / "run"), log.Lines.write

    def until(lines, record):
        if record["event"] == "train":
            raise Stopped
        write(lines, record)

    with monkeypatch.context() as patch, contextlib.suppress(Stopped):
        patch.setattr(log.Lines, "write", until)
        launch(config, run.path, Session(say=lambda text: None))
    assert checkpoint.latest(run.checkpoints) == 8
    return config, run


def warnings(config, run):
    said = []
    launch(config, run.path, Session(say=said.append))
    return [text for text in said if "not what it ran on before" in text]


def test_where_nothing_has_changed_nothing_is_said(stopped):
    assert warnings(*stopped) == []


def test_another_number_of_cores_is_said(stopped):
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("this machine has one core")
    try:
        os.sched_setaffinity(0, {min(cores)})
        (warning,) = warnings(*stopped)
    finally:
        os.sched_setaffinity(0, cores)
    assert warning.endswith(f": cores {len(cores)} then and 1 now")


@pytest.mark.parametrize("name", ["jax", "numpy", "python", "device"])
def test_other_versions_and_devices_are_said(name, stopped):
    config, run = stopped
    experiment = assemble(config)
    like = experiment.shared.programs.create(jax.random.key(0), experiment.inputs)
    state, extra, _ = checkpoint.restore(run.checkpoints, like)
    there = extra["surroundings"]
    place = there["versions"] if name in there["versions"] else there
    now, place[name] = place[name], "0.0.1"
    checkpoint.save(run.checkpoints, 8, state, extra)  # as it had been saved there
    (warning,) = warnings(config, run)
    assert warning.endswith(f": {name} 0.0.1 then and {now} now")
