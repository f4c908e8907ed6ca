"""A pool runs each job once, survives those that fail, and goes on with what was cut off."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from experiments.running.workdir import Workdir, in_use
from experiments.sweeps import outcomes, pool
from experiments.sweeps.jobs import Job, jobs
from experiments.sweeps.points import points
from experiments.sweeps.slots import Wish, slots
from sparsity.train import checkpoint

DIGITS = "configs/digits.py"
TWO = slots(Wish(workers=2))


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


def short(**values):
    return {"product": {"steps": [30], **values}}


def test_failed_and_diverged_runs_are_recorded_and_stop_no_other(tmp_path):
    named = {
        "good": {},
        "fails": {"density": "0.0001"},
        "diverges": {"optimizer.learning_rate": 1e30, "argument": "magnitude,plan=static"},
    }
    family = jobs(DIGITS, points({**short(), "named": named}))
    seen = []
    found = pool.run(family, tmp_path, TWO, pool.Hooks(ended=seen.append))
    good, fails, diverges = (found[job.name] for job in family)
    assert good.summary["steps"] == 30 and not good.cause
    assert fails.cause.startswith("ValueError: ") and "none of its" in fails.cause
    assert diverges.cause.startswith("Diverged: ")
    assert json.loads((diverges.folder / "status.json").read_text())["status"] == "diverged"
    assert len(seen) == 3
    # What failed before its launch could say so is on disk too, for whoever reads it later.
    read = outcomes.read(family, tmp_path)
    assert {name: o.cause for name, o in read.items()} == {n: o.cause for n, o in found.items()}
    assert [job.name for job in outcomes.missing(family, tmp_path)] == [fails.job.name]
    again = pool.run(family, tmp_path, TWO)
    assert again[good.job.name].summary == good.summary


@pytest.mark.slow
def test_a_run_whose_process_is_killed_is_tried_again_and_ends(tmp_path):
    family = jobs(
        DIGITS, points({"product": {"steps": [1000], "save_every": [50], "seed": [0, 1]}})
    )
    found: dict[str, pool.Outcome] = {}
    thread = threading.Thread(target=lambda: found.update(pool.run(family, tmp_path, TWO)))
    thread.start()
    saved = tmp_path / family[0].name / "checkpoints"
    while thread.is_alive() and not (saved.exists() and any(saved.glob("[0-9]*[0-9]"))):
        time.sleep(0.01)
    children = multiprocessing.active_children()
    assert children and thread.is_alive()
    os.kill(children[0].pid, signal.SIGKILL)
    thread.join()
    assert {name: outcome.cause for name, outcome in found.items()} == {
        job.name: "" for job in family
    }
    assert all(outcome.summary["steps"] == 1000 for outcome in found.values())


def test_no_job_is_no_work(tmp_path):
    assert pool.run([], tmp_path, TWO) == {}
    assert Job({}, {"a": 1}).name == Job({"b": 2}, {"a": 1}).name


KILLED = """
from pathlib import Path
from experiments.sweeps import pool
from experiments.sweeps.jobs import jobs
from experiments.sweeps.slots import Wish, slots

if __name__ == "__main__":
    point = {"steps": 100_000, "save_every": 50}
    pool.run(jobs("configs/digits.py", [point]), Path("FOLDER"), slots(Wish(workers=1)))
"""


@pytest.mark.slow
def test_a_killed_sweep_leaves_no_run_behind(tmp_path, pytestconfig):
    (job,) = jobs(DIGITS, [{"steps": 100_000, "save_every": 50}])
    here, script = Workdir(tmp_path / job.name), tmp_path / "killed.py"
    script.write_text(KILLED.replace("FOLDER", str(tmp_path)))
    paths = f"{pytestconfig.rootpath}:{os.environ.get('PYTHONPATH', '')}"
    process = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": paths}
    )
    while process.poll() is None and checkpoint.latest(here.checkpoints) is None:
        time.sleep(0.05)
    assert in_use(here)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while in_use(here) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not in_use(here)
    assert [left.name for left in outcomes.missing([job], tmp_path)] == [job.name]
