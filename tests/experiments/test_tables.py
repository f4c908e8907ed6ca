"""A table is of equal budget and equal tuning, and says what it does not know."""

import json
import math
from functools import partial
from xml.etree import ElementTree

import pytest

from configs.tables import fashion_mnist
from experiments import tables
from experiments.reporting import charts, claims, exports, lines, results, table
from experiments.reporting.metrics import ACCURACY, Metric
from experiments.surroundings import surroundings
from experiments.sweeps import outcomes
from experiments.sweeps.arms import arms, report_jobs
from experiments.sweeps.slots import Wish

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
    config["figure"] = "it is better"
    return config


def test_a_table_tunes_on_validation_reports_on_test_and_resumes(small, tmp_path):
    runner = partial(outcomes.run, folder=tmp_path / "runs", wish=Wish(workers=2))
    found = tables.run(small, runner)
    # The rate that diverges was tried, and is not chosen.
    assert found["chosen"] == {
        arm["name"]: {"optimizer.learning_rate": 0.1} for arm in small["arms"]
    }
    trials = found["tuning"]["trials"]["dense"]
    assert "Diverged" in trials[1]["causes"][0] and len(trials[0]["values"]) == 1
    assert len(found["runs"]) == 3 * 2
    for run in found["runs"]:
        config = json.loads((tmp_path / "runs" / run["run"] / "config.json").read_text())
        assert config["data"]["validation"] == 0 and config["seed"] in (10, 11)
        assert config["steps"] == 40
    assert tables.run(small, partial(outcomes.read, folder=tmp_path / "runs")) == found
    assert found["surroundings"]["versions"] == surroundings()["versions"]
    found["how"] = {"command": "x", "surroundings": surroundings(), "run seconds": 1}
    pictures = charts.drawn(found)
    assert set(pictures) == {"difference"}  # one sparsity makes no curve
    paths = table.write(tmp_path / "out" / "small", found, pictures)
    assert [path.suffix for path in paths] == [".md", ".csv", ".csv", ".tex", ".json", ".svg"]
    ElementTree.fromstring(paths[5].read_text())  # a document of its own
    words = paths[0].read_text()
    assert "(small-difference.svg)" in words
    for run in found["runs"]:
        assert f"{run['summary']['accuracy']}" in paths[1].read_text()
    assert "2 trials per method" in words and "6 combinations in all" in words
    assert words.count("| chosen |") == 3 and "(1 failed)" in words
    assert paths[3].read_text().count(r"\\") == len(lines.compact(found))


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


def grid_of(published, metrics=(), runs=(), cells=None):
    cells = cells or [{"blocks.block": [8, 8], "density": "0.1"}]
    return {
        "title": "A title",
        "cells": cells,
        "runs": list(runs),
        "claims": [],
        "published": published,
        "metrics": list(metrics),
        "seeds": [1, 2],
        "tuning": {},
        "chosen": {},
        "how": {"command": "x", "surroundings": {}, "run seconds": 1},
    }


def ended(arm, seed, cause="", **summary):
    numbers = {"asked_sparsity": 0.9, "achieved_sparsity": 0.88, "seconds": 1800.0, **summary}
    place = {"blocks.block": [8, 8], "density": "0.1"}
    done = {} if cause else numbers
    return {"arm": arm, "cell": place, "seed": seed, "run": "r", "summary": done, "cause": cause}


LOSS = {"field": "loss", "name": "log loss", "better": "lower", "scale": 1, "digits": 4}
AUC = {"field": "auc", "name": "AUC", "scale": 1, "digits": 4}


def test_ours_stands_beside_the_papers_figure_or_beside_none():
    runs = [ended("a", s, loss=0.45 + s / 1000, auc=0.8) for s in (1, 2)]
    runs += [ended("b", 1, "Diverged: the training loss is nan"), ended("c", 1, loss=0.5, auc=0.7)]
    runs[0] |= {"latency": {"dense": 2.0, "block_sparse": 1.0}, "devices": 8}
    paper = {"value": 0.4517, "source": "arXiv 1, Table 2"}
    gone = {"value": None, "said": "diverged", "source": "arXiv 1, Table 2"}
    published = {"a": {"8x8, 90%": paper}, "b": {"8x8, 90%": gone}}
    found = grid_of(published, [LOSS, AUC], runs)
    _, a, b, c = lines.compact(found)
    assert a[1] == "0.4515 ± 0.0007 [0.4517]"
    assert b[1] == "diverged [diverged]" and c[1] == "0.5000 [n/a]"
    _, a, b, c = lines.full(found)
    # 8 devices for half an hour, and one for as long.
    assert a[3:] == ["0.4517", "-0.0002", "2", "90%", "88.00%", "4.5", "2", "1"]
    assert c[4] == "" and c[-2:] == ["unmeasured", "unmeasured"]
    assert b[-3:] == ["", "", ""]
    words = table.page(found)
    assert "## AUC" in words and "0.8000 ± 0.0000 |" in words
    assert "| b | 8x8, 90% | 1 | Diverged: the training loss is nan |" in words
    assert words.count("arXiv 1, Table 2") == 1
    by_cell = exports.cells(found).splitlines()
    assert by_cell[1].startswith('a,"8x8, 90%",2,0.4515,') and ",0.4517,0.9,0.88,4.5," in by_cell[1]
    assert "0.4515 $\\pm$ 0.0007 [0.4517]" in exports.latex(found)
    assert all(float(line.split(",")[6]) for line in exports.runs(found).splitlines()[1:3])


def test_an_arm_that_is_not_tuned_yet_is_not_run_and_half_a_grid_is_half_a_table(small, tmp_path):
    asked = []

    def runner(jobs):
        asked.append(list(jobs))
        return outcomes.read(jobs, tmp_path)

    found = tables.run(small, runner)
    assert len(asked[0]) == 6 and not asked[1] and not found["chosen"]
    assert lines.open_cells(found) == 6 and "6 of 6 runs have not ended" in table.page(
        {**found, "how": {"command": "x", "surroundings": {}, "run seconds": 0}}
    )
    del small["tuning"]
    for arm in small["arms"]:
        del arm["trials"]
    found = tables.run(small, runner)
    assert not asked[2] and len(asked[3]) == 6  # one trial each: nothing to tune
    assert all(point == {} for point in found["chosen"].values())


def test_a_gain_is_drawn_over_the_block_wherever_there_are_two_sizes(small):
    cells = [{"blocks.block": [b, b], "density": d} for b in (8, 16) for d in ("0.1", "0.05")]
    runs = [
        {**ended(arm, s, accuracy=0.9 - i / 100 + s / 1000), "cell": c}
        for c in cells
        for i, arm in enumerate(PAIR)
        for s in (1, 2)
    ]
    found = grid_of({}, (), runs, cells)
    found |= {"claims": small["claims"], "figure": "it is better"}
    drawn = charts.drawn(found)
    assert set(drawn) == {"difference", "gain"}
    label = ElementTree.fromstring(drawn["gain"]).attrib["aria-label"]
    assert "8x8, 90%: +1.00" in label and label.startswith("Gain against the block")


def cell(*accuracies, causes=()):
    return results.Cell(dict(enumerate(accuracies)), causes, 0.9, 0.9)


def test_what_is_not_run_is_blank_and_what_diverged_says_so(small, tmp_path):
    found = tables.run(small, partial(outcomes.read, folder=tmp_path))
    assert [row[1:] for row in lines.compact(found)[1:]] == [[""], [""], [""]]
    assert claims.rows(found)[1] == ["it is better", ""]
    assert shown() == "" and shown(90.0) == "90.00"
    assert shown(90.0, 92.0) == "91.00 ± 1.41"
    assert shown(90.0, causes=("Diverged: at step 3", "Diverged: x")) == "90.00 (2 diverged)"
    assert shown(causes=("Diverged: x",)) == "diverged"
    assert shown(90.0, causes=("OSError: full",)) == "90.00 (1 failed)"


def shown(*values, causes=()):
    return results.shown(cell(*values, causes=causes), ACCURACY)


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
    found = claims.difference(better, worse, ACCURACY)
    assert found["verdict"] == verdict
    assert found["points"] == pytest.approx(points, abs=1e-3, nan_ok=True)
    if worse and found["verdict"]:  # where lower is better, everything turns around
        turned = claims.difference(worse, better, Metric(better="lower"))
        assert turned == found


PAPER = {"value": 90.0, "source": "a paper"}
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
    (lambda c: c["arms"][0].update(trails={}), "no field of an arm .* did you mean 'trials'"),
    (lambda c: c.pop("tuning"), "has no section tuning"),
    (lambda c: c.update(figure="it is bettr"), "did you mean 'it is better'"),
    (lambda c: c["claims"][0].update(better="dens"), "did you mean 'dense'"),
    (lambda c: c.update(metrics=[{"filed": "loss"}]), "did you mean 'field'"),
    (lambda c: c.update(metrics=[{"better": "low"}]), "did you mean 'lower'"),
    (lambda c: c.update(published={"dens": {}}), "did you mean 'dense'"),
    (lambda c: c.update(published={"dense": {"": {"value": 9}}}), "names its source"),
    (lambda c: c.update(published={"dense": {"": {"value": None}}}), "a number, or None with what"),
    (
        lambda c: c.update(published={"dense": {"8x8": PAPER}}),
        "no cell .in what is published of dense",
    ),
]


@pytest.mark.parametrize(("spoil", "words"), BAD)
def test_a_table_that_would_not_be_fair_or_cannot_run_is_refused(spoil, words, small, tmp_path):
    spoil(small)
    with pytest.raises(ValueError, match=words):
        tables.run(small, partial(outcomes.read, folder=tmp_path))


def test_the_table_of_fashion_mnist_is_whole():
    config = json.loads(fashion_mnist.get_config().to_json())
    found = arms(config)
    names = {arm.name for arm in found}
    assert {c[side] for c in config["claims"] for side in ("better", "worse")} <= names
    # What differs in what ranks the blocks differs in nothing else.
    attention = report_jobs(config, found[7], {})[0][1].config
    frobenius = report_jobs(config, found[10], {})[0][1].config
    assert {k for k in attention if attention[k] != frobenius[k]} == {"method"}
