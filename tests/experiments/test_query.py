"""What many runs came to: the best over the seeds, what tells two apart, and all of it as a file."""

import csv
import json

import pytest
from pyarrow import parquet

from experiments import query
from experiments.reporting import frames, records

SIZES = {"steps": 30, "parameters": 9, "parameters_live": 5, "macs": 8, "macs_live": 4}


@pytest.fixture
def runs(tmp_path, config_of):
    """Directories as launches leave them: two configs with two seeds each, one that failed."""
    for rate, seed, accuracy in ((0.1, 0, 0.9), (0.1, 1, 0.92), (0.2, 0, 0.95), (0.2, 1, 0.7)):
        config = config_of(seed=seed, optimizer__learning_rate=rate)
        numbers = {"asked_sparsity": 0.9, "achieved_sparsity": 0.9, "loss": 1 - accuracy}
        done = {**SIZES, **numbers, "accuracy": accuracy, "seed": seed, "seconds": 1.0}
        _leave(tmp_path / "deep" / f"rate{rate}seed{seed}", config=config, summary=done)
    failed = {"status": "failed", "cause": "OSError: full"}
    _leave(tmp_path / "failed", config=config_of(seed=5), status=failed)
    return tmp_path


def _leave(folder, **files):
    folder.mkdir(parents=True)
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))


def test_the_best_is_the_best_mean_over_the_seeds(runs):
    found = records.found([runs])
    assert [one.run for one in found][-1] == "failed" and len(found) == 5
    head, first, second = query.best(found, "accuracy", True, 10)
    assert head == ["accuracy", "seeds", "optimizer.learning_rate", "run"]
    assert first == ["0.91 ± 0.014", "2", "0.1", "rate0.1seed0"]
    assert second[:3] == ["0.825 ± 0.18", "2", "0.2"]
    assert query.best(found, "loss", False, 1)[1][2] == "0.1"
    assert len(query.best(found, "accuracy", True, 1)) == 2


def test_runs_are_chosen_by_what_their_fields_print(runs):
    found = records.found([runs, runs / "deep"])
    assert len(found) == 5  # each once
    where = query.wanted(["optimizer.learning_rate=0.2", "seed=1"])
    assert [one.run for one in records.chosen(found, where)] == ["rate0.2seed1"]
    assert [one.run for one in records.chosen(found, {"state": "failed: OSError: full"})] == [
        "failed"
    ]


def test_two_runs_differ_in_what_they_were_asked_and_in_what_came_out(runs):
    rows = query.differ(records.found([runs]), ["rate0.1seed0", "rate0.2seed0"])
    assert rows[:2] == [
        ["field", "rate0.1seed0", "rate0.2seed0"],
        ["optimizer.learning_rate", "0.1", "0.2"],
    ]
    assert ["accuracy", "0.9", "0.95"] in rows


def test_exports_hold_every_run_and_every_field(runs):
    found = records.found([runs])
    for name in ("all.csv", "all.parquet"):
        frames.write(runs / "out" / name, [one.fields for one in found])
    with (runs / "out" / "all.csv").open() as file:
        lines = list(csv.DictReader(file))
    table = parquet.read_table(runs / "out" / "all.parquet").to_pylist()
    assert len(lines) == len(table) == 5
    for line, row, one in zip(lines, table, found, strict=True):
        assert row["accuracy"] == one.summary.get("accuracy")
        assert line["accuracy"] == str(one.summary.get("accuracy", ""))
        assert row["blocks.block"] == "[8, 8]" and row["optimizer.learning_rate"] in (0.1, 0.2)


BAD = [
    (lambda f: query.best(f, "acuracy", True, 1), "did you mean 'accuracy'"),
    (lambda f: records.chosen(f, {"sed": "1"}), "did you mean 'seed'"),
    (lambda f: query.differ(f, ["rate", "failed"]), "begins the names of several runs"),
    (lambda f: query.differ(f, ["failde", "failed"]), "did you mean 'failed'"),
    (lambda f: query.differ(f, ["failed"]), "takes two runs, not 1"),
    (lambda f: query.wanted(["seed"]), "takes field=value"),
]


@pytest.mark.parametrize(("ask", "words"), BAD)
def test_a_question_that_cannot_be_answered_says_why(ask, words, runs):
    with pytest.raises(ValueError, match=words):
        ask(records.found([runs]))


def test_a_file_of_another_form_and_a_folder_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no form of an export"):
        frames.write(tmp_path / "deep" / "a.xls", [])
    with pytest.raises(ValueError, match="there is no folder"):
        records.found([tmp_path / "nowhere"])
    assert not list(tmp_path.iterdir())
