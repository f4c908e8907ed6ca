"""A table is of equal budget and equal tuning, and says what it does not know."""

import json
import math
from functools import partial
from xml.etree import ElementTree

import pytest

from configs.tables import fashion_mnist
from experiments import tables
from experiments.reporting import charts, results
from experiments.surroundings import surroundings
from experiments.sweeps import outcomes

PAIR = ("magnitude, gradual (cubic)", "random, from the start")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


@pytest.fixture
def small():
    """Two arms on digits, two trials each, one cell, two seeds."""
    config = json.loads(fashion_mnist.get_config().to_json())
    config["base"], config["set"] = "configs/digits.py", {"steps": 40}
    config["cells"] = {"blocks.block": [[8, 8]], "density": ["0.2"]}
    config["seeds"] = [10, 11]
    config["tuning"] = {"at": {"density": "0.1"}, "seeds": [0], "validation": 0.2}
    config["arms"] = [a for a in config["arms"] if a["name"] in ("dense", *PAIR)]
    for arm in config["arms"]:
        arm["trials"] = {"product": {"optimizer.learning_rate": [0.1, 1e30]}}
    better, worse = PAIR
    config["claims"] = [{"claim": "it is better", "better": better, "worse": worse}]
    return config


def test_a_table_tunes_on_validation_reports_on_test_and_resumes(small, tmp_path):
    runner = partial(outcomes.run, folder=tmp_path / "runs", workers=2)
    found = tables.run(small, runner)
    # The rate that diverges was tried, and is not chosen.
    assert found["chosen"] == {
        arm["name"]: {"optimizer.learning_rate": 0.1} for arm in small["arms"]
    }
    trials = found["tuning"]["trials"]["dense"]
    assert "Diverged" in trials[1]["causes"][0] and len(trials[0]["accuracies"]) == 1
    assert len(found["runs"]) == 3 * 2
    for run in found["runs"]:
        config = json.loads((tmp_path / "runs" / run["run"] / "config.json").read_text())
        assert config["data"]["validation"] == 0 and config["seed"] in (10, 11)
        assert config["steps"] == 40
    assert (
        tables.run(small, partial(outcomes.read, folder=tmp_path / "runs"))["runs"] == found["runs"]
    )
    found["how"] = {"command": "x", "surroundings": surroundings(), "run seconds": 1}
    pictures = charts.drawn({**found, "figure": "it is better"})
    assert set(pictures) == {"difference"}  # one sparsity makes no curve
    paths = results.write(tmp_path / "out" / "small", found, pictures)
    assert [path.suffix for path in paths] == [".md", ".csv", ".tex", ".json", ".svg"]
    ElementTree.fromstring(paths[4].read_text())  # a document of its own
    words = paths[0].read_text()
    assert "(small-difference.svg)" in words
    for run in found["runs"]:
        assert f"{run['summary']['accuracy']}" in paths[1].read_text()
    assert "2 trials per method" in words and "6 combinations in all" in words
    assert words.count("| chosen |") == 3 and "(1 failed)" in words
    assert paths[2].read_text().count(r"\\") == len(results.table(found))


def test_accuracy_is_drawn_over_the_sparsities_of_each_block(small):
    cells = [{"blocks.block": [8, 8], "density": d} for d in ("0.1", "0.05")]

    def run(arm, cell, seed):
        asked = 1 - float(cell.get("density", 1))
        summary = {"accuracy": 0.9, "asked_sparsity": asked, "achieved_sparsity": asked}
        return {"arm": arm, "cell": cell, "seed": seed, "summary": summary, "cause": ""}

    runs = [run("dense", {}, s) for s in (1, 2)]
    runs += [run("magnitude", c, s) for c in cells for s in (1, 2)]
    drawn = charts.drawn({"cells": cells, "runs": runs, "claims": []})
    assert set(drawn) == {"8x8"}
    assert "magnitude at 90%: 90.00" in ElementTree.fromstring(drawn["8x8"]).attrib["aria-label"]


def cell(*accuracies, causes=()):
    return results.Cell(dict(enumerate(accuracies)), causes, 0.9, 0.9)


def test_what_is_not_run_is_blank_and_what_diverged_says_so(small, tmp_path):
    found = tables.run(small, partial(outcomes.read, folder=tmp_path))
    assert [row[1:] for row in results.table(found)[1:]] == [[""], [""], [""]]
    assert results._claim_rows(found)[1] == ["it is better", ""]
    assert str(cell()) == "" and str(cell(90.0)) == "90.00"
    assert str(cell(90.0, 92.0)) == "91.00 ± 1.41"
    assert str(cell(90.0, causes=("Diverged: at step 3", "Diverged: x"))) == "90.00 (2 Diverged)"


@pytest.mark.parametrize(
    ("better", "worse", "verdict", "points"),
    [
        (cell(90.0, 91.0, 92.0), cell(80.0, 81.1, 82.0), "held", 9.9667),
        (cell(80.0, 81.1, 82.0), cell(90.0, 91.0, 92.0), "not held", -9.9667),
        (cell(90.0, 91.0, 92.0), cell(91.0, 91.0, 90.0), "within the spread", 0.3333),
        (cell(90.0), cell(80.0), "", math.nan),
        (cell(90.0, 91.0), None, "", math.nan),
    ],
)
def test_a_claim_is_judged_by_the_paired_differences(better, worse, verdict, points):
    found = results._difference(better, worse)
    assert found["verdict"] == verdict
    assert found["points"] == pytest.approx(points, abs=1e-3, nan_ok=True)


BAD = [
    (
        lambda c: c["arms"][0]["trials"]["product"]["optimizer.learning_rate"].pop(),
        "as many trials",
    ),
    (lambda c: c["arms"][0].update(like="magnitud"), "no arm is called 'magnitud'"),
    (lambda c: c["arms"].append(c["arms"][0]), "two arms are called"),
    (lambda c: c.update(seeds=[0, 11]), r"seeds \[0\] would tune and report"),
    (lambda c: c["cells"].update(sed=[0]), "did you mean 'seed'"),
    (lambda c: c.update(set={"stpes": 1}), "did you mean 'steps'"),
]


@pytest.mark.parametrize(("spoil", "words"), BAD)
def test_a_table_that_would_not_be_fair_or_cannot_run_is_refused(spoil, words, small, tmp_path):
    spoil(small)
    with pytest.raises(ValueError, match=words):
        tables.run(small, partial(outcomes.read, folder=tmp_path))


def test_the_table_of_fashion_mnist_is_whole():
    config = json.loads(fashion_mnist.get_config().to_json())
    found = tables.arms(config["arms"])
    names = {arm.name for arm in found}
    assert {c[side] for c in config["claims"] for side in ("better", "worse")} <= names
    # What differs in what ranks the blocks differs in nothing else.
    attention = tables.report_jobs(config, found[7], {})[0][1].config
    frobenius = tables.report_jobs(config, found[10], {})[0][1].config
    assert {k for k in attention if attention[k] != frobenius[k]} == {"method"}
