"""The final models of runs are measured dense and on live blocks, once per config, and tables read it."""

import json

import pytest

from experiments import latency
from experiments.reporting.results import grid
from experiments.running.launch import Session, launch
from experiments.sweeps.arms import Arm
from experiments.sweeps.jobs import jobs
from experiments.sweeps.outcomes import read
from experiments.tables import record

QUIET = Session(say=lambda text: None)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


@pytest.mark.slow
def test_one_run_of_a_config_is_measured_and_its_table_says_so(tmp_path):
    family = jobs("configs/digits.py", [{"steps": 10, "seed": seed} for seed in (0, 1)])
    for job in family:
        launch(job.config, tmp_path / job.name, QUIET)
    (run,) = latency.chosen([tmp_path])
    found = latency.measured(run, batch=8, rounds=3)
    assert set(found["milliseconds"]) == {"dense", "block_sparse"}
    assert all(0 < ms < 1e4 for ms in found["milliseconds"].values())
    (run / "latency.json").write_text(json.dumps(found))
    assert not latency.chosen([tmp_path])
    records = [record(Arm("a", ""), {}, job, read([job], tmp_path)[job.name]) for job in family]
    assert grid({"runs": records})["a"][""].latency == found["milliseconds"]
    assert [bool(one["timed"]) for one in records] == [one["run"] == run.name for one in records]
    assert (
        found["batch"] == 8
        and found.items() >= next(r["timed"] for r in records if r["timed"]).items()
    )
