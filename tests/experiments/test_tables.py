"""A table is of equal budget and equal tuning, and says what it does not know."""

import importlib
import json
import pkgutil
from functools import partial
from xml.etree import ElementTree

import pytest

from configs import tables as all_tables
from configs.tables import fashion_mnist
from experiments import tables
from experiments.reporting import charts, claims, lines, table
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
    again = tables.kept({**small, "title": "Another"}, tmp_path / "out" / "small")
    assert table.page(again, ["small-difference.svg"]).splitlines()[1:] == words.splitlines()[1:]
    assert "(small-difference.svg)" in words
    for run in found["runs"]:
        assert f"{run['summary']['accuracy']}" in paths[1].read_text()
    assert "2 trials per method" in words and "6 combinations in all" in words
    assert words.count("| chosen |") == 3 and "(1 failed)" in words
    assert paths[3].read_text().count(r"\\") == len(lines.compact(found))


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


def test_what_is_not_run_is_blank(small, tmp_path):
    found = tables.run(small, partial(outcomes.read, folder=tmp_path))
    assert [row[1:] for row in lines.compact(found)[1:]] == [[""], [""], [""]]
    assert claims.rows(found)[1] == ["it is better", ""]


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


@pytest.mark.parametrize("name", sorted(m.name for m in pkgutil.iter_modules(all_tables.__path__)))
def test_every_table_that_comes_with_the_project_can_be_planned(name, tmp_path):
    module = importlib.import_module(f"{all_tables.__name__}.{name}")
    config = json.loads(module.get_config().to_json())
    found = tables.run(config, partial(outcomes.read, folder=tmp_path))
    places = len(found["cells"])
    dense = sum(arm.dense for arm in arms(config))
    rows = (len(arms(config)) - dense) * places + dense
    assert len(found["runs"]) == rows * len(config["seeds"])


def test_the_table_of_fashion_mnist_is_whole():
    config = json.loads(fashion_mnist.get_config().to_json())
    found = arms(config)
    names = {arm.name for arm in found}
    assert {c[side] for c in config["claims"] for side in ("better", "worse")} <= names
    # What differs in what ranks the blocks differs in nothing else.
    attention = report_jobs(config, found[7], {})[0][1].config
    frobenius = report_jobs(config, found[10], {})[0][1].config
    assert {k for k in attention if attention[k] != frobenius[k]} == {"method"}
