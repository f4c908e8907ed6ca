"""A page of a table: what stands beside a paper's figure, what is blank, what is drawn, what a claim came to."""

import math
from xml.etree import ElementTree

import pytest

from experiments.reporting import charts, claims, exports, lines, results, table
from experiments.reporting.metrics import ACCURACY, Metric


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
    numbers = {"asked_sparsity": 0.9, "achieved_sparsity": 0.88, "seconds": 1800.0}
    numbers |= {"network_sparsity": 0.8, **summary}
    place = {"blocks.block": [8, 8], "density": "0.1"}
    done = {} if cause else numbers
    return {"arm": arm, "cell": place, "seed": seed, "run": "r", "summary": done, "cause": cause}


LOSS = {"field": "loss", "name": "log loss", "better": "lower", "scale": 1, "digits": 4}
AUC = {"field": "auc", "name": "AUC", "scale": 1, "digits": 4}


def test_ours_stands_beside_the_papers_figure_or_beside_none():
    runs = [ended("a", s, loss=0.45 + s / 1000, auc=0.8) for s in (1, 2)]
    runs += [ended("b", 1, "Diverged: the training loss is nan"), ended("c", 1, loss=0.5, auc=0.7)]
    runs[0] |= {"latency": {"dense": 2.0, "block_sparse": 1.0}, "devices": 8}
    runs[0]["timed"] = {"batch": 64, "rounds": 9, "device": "cpu cpu", "cores": 2}
    paper = {"value": 0.4517, "source": "arXiv 1, Table 2"}
    gone = {"value": None, "said": "diverged", "source": "arXiv 1, Table 2"}
    published = {"a": {"8x8, 90%": paper}, "b": {"8x8, 90%": gone}}
    found = grid_of(published, [LOSS, AUC], runs)
    _, a, b, c = lines.compact(found)
    assert a[1] == "0.4515 ± 0.0007 [0.4517]"
    assert b[1] == "diverged [diverged]" and c[1] == "0.5000 [n/a]"
    _, a, b, c = lines.full(found)
    # 8 devices for half an hour, and one for as long.
    assert a[3:] == ["0.4517", "-0.0002", "2", "90%", "88.00%", "80.00%", "4.5", "2", "1"]
    assert c[4] == "" and c[-2:] == ["unmeasured", "unmeasured"]
    assert b[-3:] == ["", "", ""]
    words = table.page(found)
    assert "## AUC" in words and "0.8000 ± 0.0000 |" in words
    assert "| b | 8x8, 90% | 1 | Diverged: the training loss is nan |" in words
    assert words.count("arXiv 1, Table 2") == 1
    assert words.count("Measured: a batch of 64, cpu, 2 cores, the median of 9 rounds") == 1
    by_cell = exports.cells(found).splitlines()
    assert (
        by_cell[1].startswith('a,"8x8, 90%",2,0.4515,')
        and ",0.4517,0.9,0.88,0.8,4.5," in by_cell[1]
    )
    assert "0.4515 $\\pm$ 0.0007 [0.4517]" in exports.latex(found)
    assert all(float(line.split(",")[6]) for line in exports.runs(found).splitlines()[1:3])


def test_accuracy_is_drawn_over_the_sparsities_of_each_block():
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


@pytest.mark.parametrize("seeds", [(1, 2), (1,)])
def test_a_gain_is_drawn_over_the_block_wherever_there_are_two_sizes(seeds):
    claim = {"claim": "it is better", "better": "a", "worse": "b"}
    cells = [{"blocks.block": [b, b], "density": d} for b in (8, 16) for d in ("0.1", "0.05")]
    runs = [
        {**ended(arm, s, accuracy=0.9 - i / 100 + s / 1000), "cell": c}
        for c in cells
        for i, arm in enumerate(("a", "b"))
        for s in seeds
    ]
    found = grid_of({}, (), runs, cells)
    found |= {"claims": [claim], "figure": "it is better"}
    drawn = charts.drawn(found)
    assert set(drawn) == {"difference", "gain"}
    label = ElementTree.fromstring(drawn["gain"]).attrib["aria-label"]
    assert "8x8, 90%: +1.00" in label and label.startswith("Gain against the block")


def cell(*accuracies, causes=()):
    return results.Cell(dict(enumerate(accuracies)), causes, 0.9, 0.9)


def test_a_cell_says_mean_spread_and_what_became_of_the_others():
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
        (cell(90.0), cell(80.0), "one seed", 10.0),
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
