"""A config's execution: told before step 0, refused where it is misspelt, and changed from launch to launch."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from experiments.assembly.assemble import assemble
from experiments.assembly.dry_run import described
from experiments.assembly.executed import told
from experiments.running.launch import Session, launch
from sparsity.train import checkpoint

# Blocks live from the first step, and dead weights are zeroed: packed, and no other program is needed.
STATIC = "random,plan=static"
ZEROED = {"plan__dead": "zeroed", "save_every": 20, "log_every": 20}


def lines_of(config):
    experiment = assemble(json.loads(json.dumps(config)))
    return told(experiment.shared.programs.execution, experiment.target, experiment.plan)


def test_a_misspelt_execution_names_its_nearest(config_of):
    with pytest.raises(ValueError, match="no execution is called 'spars'; did you mean 'sparse'"):
        assemble(config_of(execution="spars"))


def test_what_runs_and_why_is_told_per_layer(config_of):
    lines = lines_of(config_of(STATIC, execution="sparse", **ZEROED))
    assert lines[0] == "execution sparse"
    assert [line.split(": ")[1] for line in lines[1:]] == [
        "params/dense1/kernel",
        "params/dense2/kernel",
    ]
    assert all("live blocks" in line and "weights and moments packed" in line for line in lines[1:])
    assert lines_of(config_of(STATIC)) == []


@pytest.mark.parametrize(
    ("argument", "changes", "words"),
    [
        (
            "powerprop",
            {},
            "masked, as the method computes weights in the place of params/dense1/kernel",
        ),
        ("magnitude", {"method__select": "globally"}, "masked, as blocks are chosen over all"),
        ("dense", {"density": "1"}, "no phase has fixed masks"),
    ],
)
def test_a_method_that_cannot_be_followed_stays_masked_and_it_is_said_once(
    argument, changes, words, config_of
):
    lines = lines_of(config_of(argument, execution="sparse", **changes))
    assert len(lines) == 2 and words in lines[1]


def test_the_dry_run_tells_it_and_names_the_programs_of_the_run(config_of, tmp_path):
    config = config_of(STATIC, execution="sparse", density="0.2", **ZEROED)
    text, said = described(config), []
    assert "params/dense1/kernel: live blocks, 51 of 256 blocks live" in text
    assert "a step, finetune phase, packed" in text
    summary = launch(config, tmp_path, Session(say=said.append))
    assert f"{summary['compilations']} programs: " in text and "execution sparse" in said


@pytest.mark.slow
def test_a_run_goes_on_under_another_execution_and_ends_as_it_would_have(config_of, tmp_path):
    def config(execution):
        return config_of(STATIC, execution=execution, **ZEROED)

    folders = {name: tmp_path / name for name in ("masked", "changed")}
    launch(config("masked"), folders["masked"], Session(say=lambda line: None))
    launch(config("sparse"), folders["changed"], Session(say=lambda line: None))
    # As if it had been killed behind its checkpoint of step 20.
    for name in ("summary.json", "status.json"):
        (folders["changed"] / name).unlink()
    assert checkpoint.latest(folders["changed"] / "checkpoints") == 20
    said = []
    launch(config("masked"), folders["changed"], Session(say=said.append))
    assert "execution sparse then and masked now: its last bits come out otherwise" in said
    one, other = (load_file(folder / "model.safetensors") for folder in folders.values())
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-5)
