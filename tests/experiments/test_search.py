"""A search asks for runs, ends those that fall behind, goes on when killed, and refuses what isn't its own."""

import json
import subprocess
import sys

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from configs.searches import fashion_mnist
from experiments import search
from experiments.reporting import search as reporting
from experiments.reporting.metrics import ACCURACY, Metric
from experiments.sweeps import study as studies
from experiments.sweeps import trials
from experiments.sweeps.slots import Wish
from experiments.sweeps.watched import Watch, evaluations
from sparsity.train import checkpoint

RATE = "optimizer.learning_rate"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


def config(**changes):
    asked = {"space": {RATE: {"log_uniform": [0.01, 0.3]}}, "trials": 2, "pruner": "none"}
    fields = {"steps": 30, "evaluate_every": 10, "log_every": 10, "data.validation": 0.2}
    return {
        "base": "configs/digits.py",
        "set": fields,
        "search": {**asked, **changes},
    }


def stored(folder):
    return f"sqlite:///{folder}/study.db"


def opened(folder, asked):
    folder.mkdir(exist_ok=True)
    return studies.opened(asked, folder.name, stored(folder), 3)


@pytest.mark.slow
def test_a_search_goes_on_with_what_a_killed_one_has_left_and_stops_at_its_count(tmp_path):
    folder = tmp_path / "small"
    study = opened(folder, config())
    left = study.ask()
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    noted = {trials.RUN: "x", trials.POINT: {RATE: 0.1}}
    here = trials.this_process().rpartition(" ")[0]
    for key, value in {**noted, trials.PROCESS: f"{here} {int(gone.stdout)}"}.items():
        left.set_user_attr(key, value)
    assert [trial.number for trial in trials.abandoned(study)] == [0]
    rows = search.run(config(), folder, wish=Wish(workers=1))
    assert [row.state for row in rows] == ["complete", "complete"]
    assert rows[0].said == "learning_rate 0.1" and rows[1].said != rows[0].said
    for row in rows:
        summary = json.loads((folder / row.run / "summary.json").read_text())
        assert summary["accuracy"] == row.value
    assert search.run(config(), folder, wish=Wish(workers=1)) == rows
    # The same study goes on with more trials, and is not that of another space.
    with pytest.raises(ValueError, match="is of another search.*\n.*0.3"):
        search.run(config(space={RATE: {"log_uniform": [0.01, 0.2]}}), folder)
    assert search.run(config(trials=9, sampler="random"), folder) == rows


def test_a_run_that_falls_behind_is_pruned_and_can_go_on(tmp_path):
    folder, asked = tmp_path / "small", config(pruner="median", trials=7)
    study, metric = opened(folder, asked), ACCURACY
    bounds = {RATE: FloatDistribution(0.01, 0.3, log=True)}
    for _ in range(6):
        good = {step: 1.0 for step in (1, 2, 3)}
        study.add_trial(
            create_trial(
                params={RATE: 0.1}, distributions=bounds, value=1.0, intermediate_values=good
            )
        )
    under_way = trials.Trials(study, asked, studies.search(asked), metric)
    (job,) = under_way.jobs()
    watch = Watch(stored(folder), folder.name, "median", metric)
    summary, cause = watch.run(job.config, folder / job.name)
    # The first evaluation is a warm-up; the second is below the median of those before.
    assert not summary and cause == "Preempted: pruned by the search at step 20"
    assert checkpoint.latest(folder / job.name / "checkpoints") == 20
    assert json.loads((folder / job.name / "status.json").read_text())["status"] == "preempted"
    under_way.ended(search.pool.Outcome(job, folder / job.name, summary, cause))
    last = study.trials[-1]
    assert last.state == TrialState.PRUNED and set(last.intermediate_values) == {1, 2}
    summary, _ = Watch(stored(folder), folder.name, "none", metric).run(
        job.config, folder / job.name
    )
    assert summary["steps"] == 30


def test_a_sampler_learns_nothing_of_what_failed_and_keeps_away_from_what_diverged(tmp_path):
    study = opened(tmp_path / "small", config(trials=3))
    under_way = trials.Trials(study, config(trials=3), studies.search(config(trials=3)), ACCURACY)
    ends = {"OSError: full": "FAIL", "Diverged: nan": "PRUNED"}
    for job, cause in zip(under_way.jobs(), ends, strict=False):
        under_way.ended(search.pool.Outcome(job, tmp_path, {}, cause))
    found = {trial.user_attrs[trials.CAUSE]: trial.state.name for trial in study.trials[:2]}
    assert found == ends


def test_the_best_stands_first_whichever_way_is_better():
    rows = [reporting.Row(i, "complete", v, "", "", "") for i, v in enumerate((0.2, 0.3))]
    rows.append(reporting.Row(2, "failed", float("nan"), "", "", "OSError: full\nmore"))
    assert [row.number for row in reporting.ordered(rows, ACCURACY)] == [1, 0, 2]
    assert [row.number for row in reporting.ordered(rows, Metric(better="lower"))] == [0, 1, 2]
    assert "failed: OSError: full" in reporting.text(rows, ACCURACY)
    assert reporting.counts(rows) == "3 trials: 2 complete, 1 failed"


def test_evaluations_are_counted_with_that_at_the_end():
    counts = [evaluations({"steps": 30, "evaluate_every": every}) for every in (10, 20, 30, 40, 0)]
    assert counts == [3, 2, 1, 1, 1]


BAD = [
    ({"sampler": "tpee"}, "no sampler .* did you mean 'tpe'"),
    ({"pruner": "hyperbnd"}, "no pruner .* did you mean 'hyperband'"),
    ({"trails": 3}, "no field of a search .* did you mean 'trials'"),
    ({"trials": 0}, "trials, a count of 1 or more"),
    ({"space": {}}, "has a space"),
    ({"space": {"optimizer.learning_rat": {"uniform": [0, 1]}}}, "did you mean 'learning_rate'"),
    ({"space": {RATE: {"uniform": [1, 0]}}}, "two rising numbers"),
    ({"space": {"steps": {"uniform": [1.5, 9.0]}}}, "the sweep's steps is 1.5"),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_a_search_that_cannot_run_is_refused_and_leaves_nothing(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        search.run(config(**changes), tmp_path / "small")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "words"),
    [("data.validation", "validation split"), ("evaluate_every", "evaluate_every")],
)
def test_a_search_is_not_judged_on_the_test_set_nor_pruned_unseen(field, words, tmp_path):
    asked = config(pruner="hyperband")
    asked["set"][field] = 0
    with pytest.raises(ValueError, match=words):
        search.run(asked, tmp_path / "small")


@pytest.mark.parametrize(
    "storage", ["", "sqlite:////nowhere/at/all.db", "nonsense", "mysql://u:pw@h/d"]
)
def test_a_storage_that_cannot_be_opened_is_said_without_its_password(storage, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "study.db").write_text("this is no database, but a file that lies in its place")
    with pytest.raises(ValueError, match="storage cannot be opened: .+") as error:
        search.run(config(), folder, storage)
    assert "pw" not in str(error.value)
    assert "in its place" in (folder / "study.db").read_text()


def test_the_search_that_comes_with_the_project_can_run():
    asked = json.loads(fashion_mnist.get_config().to_json())
    found = studies.search(asked)
    fixed = optuna.trial.FixedTrial({"plan.every": '"1%"', "method.clip": "true"})
    chosen = {k: d for k, d in found.space.items() if d.kind == "choice"}
    point = studies.suggested(fixed, chosen)
    assert trials.at(asked, point).config["method"]["clip"] is True
