"""The configs for click logs give the paper's sizes, plans and figures."""

import json
import math

import pytest

from configs import criteo
from configs.tables import adult_small, criteo_generated
from configs.tables import criteo as table
from experiments.assembly.planned import plan_of
from experiments.reporting.places import place_of
from experiments.reporting.published import figures, refuse_strange
from experiments.sweeps.arms import arms, cells, report_jobs
from sparsity.plan.phases import Kind

PLANS = ["magnitude,plan=one_shot", "powerprop", "magnitude,plan=acdc", "sequential_attention"]
PLANS += ["sequential_attention,plan=phases"]


def plan(argument):
    config = json.loads(criteo.get_config(argument).to_json())
    return plan_of(config, criteo.EPOCH), config["steps"]


def shares(found, kind):
    return [round(100 * p.length / found[1], 1) for p in found[0] if p.kind == kind]


def test_the_run_is_the_papers():
    config = criteo.get_config("dense")
    assert config.steps == 25 * 1007 == 25_175 and config.batch == 32_768
    assert (config.optimizer.learning_rate, config.optimizer.final) == (2e-2, 3e-4)
    assert config.model.to_dict() | {"dtype": ""} == {
        "name": "clicks",
        "width": 10,
        "widths": (400, 400, 400),
        "values": "log",
        "dtype": "",
    }


def test_the_plans_are_the_papers():
    attention, rampless = plan(PLANS[3]), plan(PLANS[4])
    assert shares(attention, Kind.DENSE) == [20.0, *[2.0] * 9]
    assert shares(attention, Kind.SPARSIFY) == [*[2.0] * 9, 6.0]
    assert shares(attention, Kind.FINETUNE) == [20.0]
    acdc = plan(PLANS[2])
    for found in (acdc, rampless):
        assert shares(found, Kind.DENSE) == [20.0, *[3.0] * 10]
        assert shares(found, Kind.SPARSE) == [3.0] * 10 and shares(found, Kind.FINETUNE) == [20.0]
    assert {p.dead for p in acdc[0]} == {"kept"}
    assert shares(plan(PLANS[0]), Kind.DENSE) == [80.0]


@pytest.mark.parametrize("argument", PLANS)
def test_totals_are_equal(argument):
    found, steps = plan(argument)
    assert sum(p.length for p in found) == steps


@pytest.mark.parametrize("module", [table, criteo_generated, adult_small])
def test_every_cell_of_a_table_is_a_run_of_its_own(module):
    config = json.loads(module.get_config().to_json())
    found = [run for arm in arms(config) for _, run in report_jobs(config, arm, {})]
    columns = math.prod(len(values) for values in config["cells"].values())
    assert len({run.name for run in found}) == len(found)
    assert len(found) == len(config["seeds"]) * (1 + columns * (len(config["arms"]) - 1))
    assert len(config["seeds"]) >= 3 and len(config["cells"]["density"]) >= 3


def test_published_figures_stand_in_cells_of_the_table():
    config, found = table.get_config(), figures({"published": table.published()})
    known = arms(config)
    places = {place_of(cell) for arm in known for cell in cells(config, arm)}
    refuse_strange(found, [arm.name for arm in known], places)
    losses = {arm: [f.value for f in own.values()] for arm, own in found.items()}
    assert sum(math.isfinite(x) for own in losses.values() for x in own) == 4 * 15 + 1
    # Whatever is pruned costs something, and in the paper nothing costs less than its own method.
    assert min(x for own in losses.values() for x in own if math.isfinite(x)) == table.DENSE
    for place, ours in found[table.ATTENTION].items():
        rivals = (table.MAGNITUDE, table.POWERPROP, table.ACDC)
        assert all(ours.value < found[rival][place].value for rival in rivals)
