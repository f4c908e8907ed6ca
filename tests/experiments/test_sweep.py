"""A sweep has one row per point, of its runs over the seeds, and says how the masks moved."""

import json
from functools import partial

import pytest

from configs.sweeps import attention, combinations
from experiments import sweep
from experiments.reporting import families
from experiments.reporting.metrics import ACCURACY, AUC, LOG_LOSS
from experiments.surroundings import surroundings
from experiments.sweeps import outcomes
from experiments.sweeps.jobs import jobs
from experiments.sweeps.points import points
from experiments.sweeps.pool import Outcome
from experiments.sweeps.slots import Wish

NAMED = {
    "gradual": {"argument": "magnitude"},
    "diverges": {"argument": "magnitude", "optimizer.learning_rate": 1e30},
    "attention": {"argument": "sequential_attention"},
}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


def config(**changes):
    return {
        "base": "configs/digits.py",
        "set": {"steps": 60, "data.validation": 0.2},
        "seeds": [0, 1],
        "sweep": {"named": NAMED},
        **changes,
    }


def test_a_sweep_runs_once_keeps_what_failed_and_is_written_down(tmp_path):
    rows, judged, there = sweep.run(
        config(), partial(outcomes.run, folder=tmp_path / "runs", wish=Wish(workers=2))
    )
    assert there["versions"] == surroundings()["versions"] and "cause" not in there
    assert [row.name for row in rows] == list(NAMED)
    gradual, diverges, soft = rows
    assert judged == (ACCURACY,)
    accuracies = gradual.values["accuracy"]
    assert set(accuracies) == set(soft.values["accuracy"]) == {0, 1}
    assert not diverges.values["accuracy"] and "Diverged" in diverges.causes[0]
    # Magnitude has no attention; a softmax's entropy is that of numbers that are nearly equal.
    assert all(m.entropy != m.entropy for m in gradual.moves)
    assert all(0.9 < m.entropy <= 1 <= m.maximum for m in soft.moves)
    for job in jobs("configs/digits.py", [{**config()["set"], **NAMED["gradual"], "seed": 1}]):
        summary = json.loads((tmp_path / "runs" / job.name / "summary.json").read_text())
        assert 100 * summary["accuracy"] == accuracies[1]
    read, _, _ = sweep.run(config(), partial(outcomes.read, folder=tmp_path / "runs"))
    assert [row.values for row in read] == [row.values for row in rows]
    assert [row.causes for row in read] == [row.causes for row in rows]
    how = {"command": "x", "surroundings": surroundings(), "set": {}, "seeds": [0, 1]}
    paths = families.write(tmp_path / "out" / "small", "A title", rows, how)
    words = paths[0].read_text()
    assert words.startswith("# A title") and "(2 Diverged)" in words
    assert len(json.loads(paths[1].read_text())["rows"]) == 3


def tick(step, **groups):
    return {"event": "tick", "step": step, "groups": groups}


def test_blocks_that_change_places_are_counted_and_a_changing_count_is_not(tmp_path):
    group = {"alive": 10, "overlap": 1.0}
    ticks = [
        tick(0, a={**group, "pruned": 6, "revived": 0}),  # a ramp that only tightens
        tick(1, a={**group, "pruned": 3, "revived": 2, "overlap": 0.8}),
        tick(
            2, a={**group, "pruned": 1, "revived": 1, "overlap": 0.9, "entropy": 0.5, "maximum": 4}
        ),
        tick(3),
    ]
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in ticks))
    found = families.moves(file)
    assert found.swapped == pytest.approx(0.4 + 0.2) and found.late == pytest.approx(0.2)
    assert found.overlap == pytest.approx(0.9)
    assert (found.entropy, found.maximum) == (0.5, 4)


def test_a_point_that_was_not_run_is_blank():
    row = families.Row("", {}, {}, (), ())
    assert families.table([row])[1] == ["as it is", *[""] * 6]


def ended(jobs, tmp_path):
    """Outcomes of click logs; the runs of the second seed saw one label alone, so that they have no AUC."""
    summary = {"loss": 0.45, "accuracy": 0.75}
    (tmp_path / "metrics.jsonl").touch()
    scored = lambda job: summary if job.config["seed"] else {**summary, "auc": 0.8}
    return {job.name: Outcome(job, tmp_path, scored(job), "") for job in jobs}


def test_click_logs_are_reported_by_log_loss_and_auc(tmp_path):
    clicks = config(base="configs/criteo.py", set={}, sweep={"named": {"a": {}}})
    rows, judged, _ = sweep.run(clicks, partial(ended, tmp_path=tmp_path))
    assert judged == (LOG_LOSS, AUC)
    assert families.table(rows, judged)[0][:3] == ["point", "loss", "auc"]
    assert families.table(rows, judged)[1][:3] == ["a", "0.4500 ± 0.0000", "0.8000"]
    how = {"command": "x", "surroundings": surroundings(), "set": {}, "seeds": [0, 1]}
    words = "loss (lower is better), auc (higher is better): on the test set"
    assert words in families.page("A title", rows, how, judged)


def test_a_sweep_reports_what_its_config_names(tmp_path):
    named = config(metrics=[AUC._asdict()], sweep={"named": {"a": {}}})
    assert sweep.run(named, partial(ended, tmp_path=tmp_path)).judged == (AUC,)


BAD = [
    ({"set": {"stpes": 3}}, "did you mean 'steps'"),
    ({"sweep": {"named": {"a": {}, "b": {}}}}, "yields one run twice"),
    ({"seeds": [0, 0]}, "yields one run twice"),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_a_sweep_that_cannot_run_is_refused(change, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        sweep.run(config(**change), partial(outcomes.read, folder=tmp_path))


@pytest.mark.parametrize("file", [attention, combinations])
def test_the_sweeps_that_come_with_the_project_can_run(file):
    whole = json.loads(file.get_config().to_json())
    family = [{**whole["set"], **point} for point in points(whole["sweep"])]
    assert len(jobs(whole["base"], family)) == len(whole["sweep"]["named"])
