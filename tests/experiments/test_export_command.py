"""A finished run is exported by one command, and served as it was evaluated, or refused in words."""

import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from configs import adult
from experiments.assembly.assemble import assemble
from experiments.export import checked, exported, network
from experiments.inputs import inputs_of
from experiments.running.launch import Session, launch
from sparsity.kernels.served import load
from sparsity.surgery.export import read

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(config_of, tmp_path_factory):
    """(a finished run's directory, its config, its summary)."""
    folder = tmp_path_factory.mktemp("run")
    config = config_of("magnitude,plan=one_shot")
    summary = launch(config, folder, Session(say=lambda line: None))
    return folder, config, summary


def test_the_served_model_scores_what_the_run_did(run, tmp_path):
    folder, config, summary = run
    said = exported(folder, tmp_path / "served", 64, ["cpu"])
    assert f"accuracy {100 * summary['accuracy']:.2f}% on" in said
    assert said.count("  cpu  ") == 2
    test = assemble(config).sets.test
    scored = load(tmp_path / "served").predict(test.images).argmax(1) == test.labels
    assert scored.mean() == pytest.approx(summary["accuracy"], abs=1e-6)
    packed, whole = (
        p.stat().st_size
        for p in (tmp_path / "served/packed.safetensors", folder / "model.safetensors")
    )
    assert packed < whole * 1.5 * summary["parameters_live"] / summary["parameters"]


def test_the_command_refuses_in_a_sentence(run, tmp_path):
    folder = Path(shutil.copytree(run[0], tmp_path / "run"))
    (folder / "model.json").write_text("{}")
    for arguments, words in (
        ([], "name one run's directory"),
        ([str(folder)], "model.json is cut short or not the JSON of a model"),
    ):
        command = [sys.executable, "-m", "experiments.export", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert words in done.stderr


@pytest.mark.parametrize(
    ("place", "batch", "platforms", "words"),
    [
        ("none", 8, ["cpu"], "none/model.json can't be read: No such file"),
        ("", 0, ["cpu"], "--batch is the number of examples in a program's batch, not 0"),
        ("", 8, ["metal"], "exported for cpu, tpu, cuda, not 'metal'"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_writes_nothing(
    run, tmp_path, place, batch, platforms, words
):
    with pytest.raises(ValueError, match=words):
        exported(run[0] / place, tmp_path / "served", batch, platforms)
    assert not (tmp_path / "served").exists()


def test_a_served_model_that_is_not_the_network_is_refused(run, tmp_path):
    folder, config, _ = run
    exported(folder, tmp_path / "served", 64, ["cpu"])
    experiment, (params, _, _) = assemble(config), read(folder)
    inputs, objective = inputs_of(experiment.sets), experiment.sets.kind.objective(0.0)
    apply = network(experiment, inputs)
    assert "accuracy" in checked(tmp_path / "served", apply, params, inputs, objective)
    other = jax.tree.map(lambda w: 1.1 * w, params)
    with pytest.raises(ValueError, match="outputs differ by 0"):
        checked(tmp_path / "served", apply, other, inputs, objective)


@pytest.mark.slow
def test_a_model_of_a_table_is_served_with_its_rows(data_root, tmp_path):
    config = adult.get_config("magnitude,plan=one_shot").to_dict()
    config |= {"steps": 20, "log_every": 0, "evaluate_every": 0}
    config["data"]["root"] = str(data_root)
    summary = launch(config, tmp_path / "run", Session(say=lambda line: None))
    said = exported(tmp_path / "run", tmp_path / "served", 4096, ["cpu"])
    assert f"accuracy {summary['accuracy']:.2%} on" in said and "  cpu  " in said
    shape, dtype = load(tmp_path / "served").text["input"]
    assert shape[0] == 4096 and dtype == "int32"
