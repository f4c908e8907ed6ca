"""ImageNet's cells are the paper's: what is cut, when, for how long, and what is printed beside them."""

import importlib
import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

from configs import imagenet
from configs.fields import check
from experiments import tables
from experiments.assembly.planned import plan_of
from experiments.sweeps import commands
from experiments.sweeps.arms import arms, cells, report_jobs
from sparsity.models import build
from sparsity.units.blocks import Rule, blocks

ROOT = pathlib.Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "configs/tables").glob("imagenet*.py"))
RUNS = {"imagenet": 81, "imagenet_ablations": 48, "imagenet_ramp": 12, "imagenet_unstructured": 1}
EPOCH = 625


def table(name):
    config = importlib.import_module(f"configs.tables.{name}").get_config()
    return json.loads(config.to_json())


def made(name):
    """{(arm, place): job} of a table's runs."""
    config = table(name)
    return {
        (arm.name, tables.place_of(cell)): job
        for arm in arms(config)
        for cell, job in report_jobs(config, arm, {})
    }


def jobs(name):
    """{(arm, place): config} of a table's runs."""
    return {key: job.config for key, job in made(name).items()}


@pytest.fixture(scope="module")
def shapes():
    module = build("resnet50", classes=1000)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    return {"params": jax.eval_shape(module.init, jax.random.key(0), image)["params"]}


@pytest.fixture(scope="module", params=NAMES)
def planned(request):
    return request.param, jobs(request.param)


def test_a_table_plans_its_grid_and_every_run_is_a_config_of_the_recipe(planned):
    name, found = planned
    assert len(found) == RUNS[name]
    for config in found.values():
        check(config)
        assert (config["steps"], config["batch"]) == (90 * EPOCH, 2048)
        assert config["model"]["name"] == "resnet50" and config["model"]["dtype"] == "bfloat16"
        assert config["optimizer"]["learning_rate"] == 0.8
        assert config["optimizer"]["schedule"] == "cosine"
        lengths = [phase.length for phase in plan_of(config, EPOCH)]
        assert sum(lengths) == 90 * EPOCH


@pytest.mark.parametrize("name", NAMES)
def test_every_run_can_be_launched_by_a_printed_command(name):
    found = commands.lines(made(name).values(), pathlib.Path("runs"))
    assert len(set(found)) == RUNS[name]


def test_what_is_published_is_of_cells_that_exist(planned):
    """Running nothing: the outcomes of a table none of whose runs is done."""
    found = tables.run(table(planned[0]), lambda jobs: {})
    assert not any(run["summary"] for run in found["runs"])


@pytest.mark.parametrize("side", [8, 16, 32, 64])
def test_the_classifier_is_pruned_and_layers_of_few_blocks_are_not(shapes, side):
    config = jobs("imagenet")["SequentialAttention++", f"{side}x{side}, 90%"]
    section = config["blocks"]
    rule = Rule("*", tuple(section["block"]))
    layers = blocks(shapes, [rule], density=config["density"], at_least=section["at_least"])
    cut = {layer.path for layer in layers if layer.group is not None}
    dense = {8: 1, 16: 8, 32: 19, 64: 36}
    assert "params/fc/kernel" in cut and len(cut) == 54 - dense[side]


def epochs(config):
    return [(str(p.kind), round(p.length / EPOCH, 2)) for p in plan_of(config, EPOCH)]


def test_plans_last_as_in_the_paper():
    found = jobs("imagenet")
    plans = {arm: epochs(config) for (arm, place), config in found.items() if "8x8, 90%" in place}
    assert plans["magnitude, one-shot"] == [("dense", 76.5), ("finetune", 13.5)]
    assert plans["PowerPropagation, one-shot"] == plans["magnitude, one-shot"]
    halves = [("sparse", 4.5), ("dense", 4.5)]
    acdc = [("dense", 9), *6 * halves, ("sparse", 4.5), ("dense", 9), ("finetune", 13.5)]
    assert plans["AC/DC"] == acdc
    thirds = [("sparsify", 3), ("sparse", 3), ("dense", 3)]
    assert plans["SequentialAttention++"] == [
        ("dense", 9),
        *6 * thirds,
        ("sparsify", 13.5),
        ("finetune", 13.5),
    ]
    ablated = jobs("imagenet_ablations")["no sparsify phase", "8x8, 90%"]
    assert epochs(ablated) == acdc


def test_acdc_zeroes_dead_weights_and_attention_keeps_them():
    found = jobs("imagenet")
    dead = {
        arm: {p.dead for p in plan_of(found[arm, "8x8, 90%"], EPOCH) if str(p.kind) != "dense"}
        for arm in ("AC/DC", "SequentialAttention++")
    }
    assert dead == {"AC/DC": {"zeroed"}, "SequentialAttention++": {"kept"}}


def differing(one, other, path=""):
    if not isinstance(one, dict) or not isinstance(other, dict):
        return {path} if one != other else set()
    keys = one.keys() | other.keys()
    return set().union(*(differing(one.get(k), other.get(k), f"{path}.{k}") for k in keys))


def test_the_arms_of_the_scores_differ_in_what_ranks_alone():
    found = jobs("imagenet_ablations")
    softmax = found["SequentialAttention++", "16x16, 90%"]
    frobenius = found["its plan and A, Frobenius norms rank", "16x16, 90%"]
    assert all(path.startswith(".method") for path in differing(softmax, frobenius))
    assert (frobenius["method"]["mask"], frobenius["method"]["score"]) == ("softmax", "l2")


def test_ramps_differ_in_c_alone():
    found = jobs("imagenet_ramp")
    assert differing(found["c = 2", "8x8, 90%"], found["c = 8", "8x8, 90%"]) == {".plan.c"}
    main = jobs("imagenet")["SequentialAttention++", "8x8, 90%"]
    assert found["c = 4", "8x8, 90%"] == main


def test_published_figures_agree_between_the_tables():
    """The ablation of c at 4 is the table's own row, rounded."""
    main, ramp = (table(name)["published"] for name in ("imagenet", "imagenet_ramp"))
    for side in (8, 16, 32, 64):
        place = f"{side}x{side}, 90%"
        rounded = main["SequentialAttention++"][place]["value"]
        assert abs(ramp["c = 4"][place]["value"] - rounded) <= 0.005
    assert main["dense"][""]["value"] == 76.90
    assert "magnitude, one-shot" not in main and "PowerPropagation, one-shot" not in main
    # Of the run without a sparsify phase no figure can be assigned to a cell from what the paper prints.
    assert set(table("imagenet_ablations")["published"]) == {"SequentialAttention++"}


def test_cells_are_blocks_by_sparsities():
    assert len(cells(table("imagenet"))) == 16


def test_epochs_are_those_of_the_published_set():
    assert imagenet.EPOCH == EPOCH
