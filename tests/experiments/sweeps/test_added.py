"""An arm that is run later stands beside the others as if all had been run at once, or is refused."""

import json

import pytest

from configs.tables import fashion_mnist
from experiments import tables
from experiments.reporting import table
from experiments.surroundings import surroundings
from experiments.sweeps.added import added
from experiments.sweeps.pool import Outcome

LATE = "random, from the start"
OTHERS = ("dense", "magnitude, gradual (cubic)")


@pytest.fixture
def config(monkeypatch, pytestconfig):
    """Three arms on digits, two trials each, two cells, two seeds."""
    monkeypatch.chdir(pytestconfig.rootpath)
    config = json.loads(fashion_mnist.get_config().to_json())
    config["base"], config["set"] = "configs/digits.py", {"steps": 40}
    config["cells"] = {"blocks.block": [[8, 8]], "density": ["0.2", "0.1"]}
    config["seeds"], config["claims"], config["figure"] = [10, 11], [], ""
    config["arms"] = [a for a in config["arms"] if a["name"] in (LATE, *OTHERS)]
    for arm in config["arms"]:
        arm["trials"] = {"product": {"optimizer.learning_rate": [0.1, 0.2]}}
    return config


def ended(jobs, folder):
    """A runner that has run everything: what came out depends on a run's config alone."""
    found = {}
    for job in jobs:
        share = int(job.name, 16) % 1000 / 1000
        asked = 1 - float(job.config["density"])
        summary = {"accuracy": share, "seconds": 1.0, "achieved_sparsity": asked}
        (folder / job.name).mkdir(parents=True, exist_ok=True)
        status = {"status": "done", "cause": "", **surroundings()}
        (folder / job.name / "status.json").write_text(json.dumps(status))
        found[job.name] = Outcome(job, folder / job.name, summary, "")
    return found


@pytest.fixture
def called(config, tmp_path):
    """What a call of some arms finds, all or only those."""

    def of(*only):
        found = tables.run(config, lambda jobs: ended(jobs, tmp_path), only)
        return json.loads(json.dumps(found))

    return of


def written(found):
    """The table as its pages' JSON has it."""
    there = found.pop("surroundings")
    return {**found, "how": {"command": "x", "surroundings": there, "run seconds": 1}}


@pytest.fixture
def names(config):
    return [arm["name"] for arm in config["arms"]]


def test_an_arm_that_is_run_later_stands_as_if_it_had_been_run_with_the_others(called, names):
    whole = written(called())
    without = written(called(*OTHERS))
    assert {run["arm"] for run in without["runs"]} == {*OTHERS}
    joined = added(without, called(LATE), names)
    assert joined.pop("how") == {**whole.pop("how"), "later": [LATE]}
    assert joined == whole
    assert [*joined["chosen"]] == names


def test_an_arm_that_is_run_again_takes_its_own_place(called, names):
    whole = written(called())
    joined = added(whole, called(LATE), names)
    assert joined["runs"] == whole["runs"]


def test_the_page_says_which_arms_were_run_later(called, names):
    joined = added(written(called(*OTHERS)), called(LATE), names)
    assert f"By later calls with --only, on the same ground: {LATE}." in table.page(joined)


BAD = [
    (lambda e: e["seeds"].append(12), r"seeds \[10, 11, 12\] then and \[10, 11\] now"),
    (lambda e: e["cells"].pop(), "cells"),
    (lambda e: e["tuning"]["seeds"].append(7), "tuning's seeds"),
    (lambda e: e["how"]["surroundings"].update(cores=64), "cores 64 then"),
    (lambda e: e["how"]["surroundings"]["versions"].update(jax="0.1"), "jax 0.1 then"),
]


@pytest.mark.parametrize(("spoil", "words"), BAD)
def test_an_arm_that_was_run_otherwise_is_refused(spoil, words, called, names):
    earlier = written(called(*OTHERS))
    spoil(earlier)
    with pytest.raises(ValueError, match=words):
        added(earlier, called(LATE), names)


def test_an_arm_that_the_table_lacks_is_named(called):
    with pytest.raises(ValueError, match="no arm is called 'dens'; did you mean 'dense'"):
        called("dens")
