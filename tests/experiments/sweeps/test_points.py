"""Sweeps multiply, repeat themselves, and refuse what no config has."""

import json
import math
import re

import pytest

from experiments.running.identity import ASIDE, flat
from experiments.sweeps.jobs import Job, jobs, resolved
from experiments.sweeps.points import family, picked, points

DIGITS = "configs/digits.py"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


def test_the_parts_of_a_sweep_multiply_in_order():
    sweep = {
        "product": {"density": ["0.1", "0.2"], "seed": [0, 1, 2]},
        "named": {"slow": {"optimizer.learning_rate": 0.1}, "plain": {}},
    }
    found = points(sweep)
    assert len(found) == 12
    assert found[0] == {"density": "0.1", "seed": 0, "optimizer.learning_rate": 0.1}
    assert found[-1] == {"density": "0.2", "seed": 2}
    assert points({"zip": {"a": [1, 2], "b": [3, 4]}}) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    assert points({}) == [{}]


def test_points_are_called_by_their_names_and_by_what_they_set():
    named = {"plain": {}, "steep": {"product": {"plan.c": [2, 4]}}}
    found = family({"named": named, "zip": {"seed": [0]}})
    assert [f.name for f in found] == ["plain, seed 0", "steep, c 2, seed 0", "steep, c 4, seed 0"]
    assert found[1].point == {"plan.c": 2, "seed": 0}
    assert points(picked({"named": named}, ["plain"])) == [{}]
    with pytest.raises(ValueError, match="did you mean 'steep'"):
        picked({"named": named}, ["step"])


def test_the_sweep_on_the_page_is_one(pytestconfig):
    page = (pytestconfig.rootpath / "docs" / "sweeps.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    space: dict = {}
    exec(compile(block, "docs/sweeps.md", "exec"), space)  # noqa: S102 (our own page)
    config = json.loads(space["config"].to_json())
    found = family(config["sweep"])
    assert len(found) == 2 * 2 * 8 * 4
    assert found[1].name.endswith("attention, argument sequential_attention, c 2.0")
    assert len(jobs(config["base"], [{**config["set"], **f.point} for f in found])) == len(found)


def test_random_draws_lie_in_their_bounds_and_are_the_same_at_each_call():
    fields = {
        "a": {"log_uniform": [1e-4, 1.0]},
        "b": {"uniform": [2.0, 3.0]},
        "c": {"choice": [1, "x"]},
        "d": {"integers": [1, 3]},
    }
    found = points({"random": {"samples": 200, "seed": 3, "fields": fields}})
    assert found == points({"random": {"samples": 200, "seed": 3, "fields": fields}})
    assert found != points({"random": {"samples": 200, "seed": 4, "fields": fields}})
    assert all(1e-4 <= p["a"] <= 1 and 2 <= p["b"] <= 3 and p["c"] in (1, "x") for p in found)
    assert {p["d"] for p in found} == {1, 2, 3}
    logs = sorted(math.log10(p["a"]) for p in found)
    assert -2.4 < logs[100] < -1.6


def test_a_run_is_named_by_its_config_alone():
    one, other = jobs(DIGITS, points({"product": {"seed": [0, 1]}}))
    again = jobs(DIGITS, points({"zip": {"density": ["0.1"], "seed": [0]}}))[0]
    assert one.name == again.name != other.name
    assert one.config["seed"] == 0 and other.config["seed"] == 1
    assert resolved(DIGITS, {"argument": "powerprop", "method.alpha": 3})["method"]["alpha"] == 3


def test_what_does_not_decide_the_outcome_is_not_in_the_name_and_all_else_is():
    whole = resolved(DIGITS, {})
    named = {field: Job({}, changed(whole, field)).name for field in flat(whole)}
    own = Job({}, whole).name
    assert {field for field, name in named.items() if name == own} == set(ASIDE)
    assert len(set(named.values())) == len(named) - len(ASIDE) + 1


def changed(config, path):
    """The config with another value in one field."""
    section, _, rest = path.partition(".")
    value = changed(config[section], rest) if rest else [config[section], "another"]
    return {**config, section: value}


BAD = [
    ({"prodct": {}}, "no part of a sweep .* did you mean 'product'"),
    ({"product": {"sed": [0]}}, "no field of the config .*did you mean 'seed'"),
    ({"product": {"method.scroe": ["l1"]}}, "'method.scroe'.* did you mean 'score'"),
    (
        {"product": {"steps.x": [1]}},
        "no field of the config .in the sweep's 'steps.x'. is called 'x'",
    ),
    ({"product": {"seed": ["a"]}}, "the sweep's seed is 'a'"),
    ({"product": {"seed": []}}, "seed needs a list of values"),
    ({"product": {"density": "0.1"}}, "density needs a list of values, not '0.1'"),
    ({"product": [1]}, "a sweep's 'product' is a mapping"),
    (
        {"zip": {"seed": [0, 1], "density": ["0.1"]}},
        "as many values of each field: seed 2, density 1",
    ),
    ({"product": {"seed": [0, 0]}}, "yields one run twice: .*'seed': 0.* and .*'seed': 0"),
    ({"product": {"seed": [0]}, "zip": {"seed": [1]}}, "two parts of the sweep set 'seed'"),
    (
        {"random": {"samples": 1, "fields": {"seed": {"uniformly": [0, 1]}}}},
        "no draw of seed .* did you mean 'uniform'",
    ),
    ({"random": {"samples": 1, "fields": {"seed": [0, 1]}}}, "seed is drawn by one of uniform"),
    ({"random": {"samples": 1, "fields": {"seed": {"integers": [3, 1]}}}}, "two rising integers"),
    ({"random": {"samples": 1, "fields": {"steps": {"log_uniform": [0, 1]}}}}, "bounds above 0"),
    ({"random": {"sampels": 1, "fields": {}}}, "did you mean 'samples'"),
    ({"random": {"samples": 0, "fields": {}}}, "has samples, a count"),
    ({"named": {"a": 3}}, "the sweep's 'a' is a mapping of fields, not 3"),
    ({"product": {"steps": [0]}}, "steps is an integer of 1 or more, not 0"),
]


@pytest.mark.parametrize(("sweep", "words"), BAD)
def test_a_sweep_that_no_config_has_is_refused(sweep, words):
    with pytest.raises(ValueError, match=words):
        jobs(DIGITS, points(sweep))
