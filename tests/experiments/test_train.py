"""The launcher's laws: a run is done once, goes on where it stopped, and leaves a plain model behind."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from experiments.assembly.assemble import assemble, feed
from experiments.running import workdir
from experiments.running.evaluate import evaluation
from experiments.running.launch import Session, launch
from sparsity.data import load
from sparsity.data.resident import batch
from sparsity.target import final_context
from sparsity.train import checkpoint
from sparsity.train.log import Lines, read
from sparsity.train.loop import Diverged, Run, fit

ROOT = pathlib.Path(__file__).parents[2]
KERNELS = ("params/dense1/kernel", "params/dense2/kernel")
BLOCK = 8
# The run that most tests look at: whatever else it is, its programs are compiled once.
ATTENTION = "sequential_attention,plan=gradual"
WATCHED = {"log_every": 7, "evaluate_every": 20}  # neither divides the steps between two saves


def tell(said):
    """A session that appends what it says to a list."""
    return Session(say=said.append)


quiet = tell([])


def status(folder):
    return json.loads((folder / "status.json").read_text())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def blocks(kernel):
    """The kernel's blocks that hold anything, as a grid of 0 and 1."""
    rows, cols = kernel.shape
    cut = kernel.reshape(rows // BLOCK, BLOCK, cols // BLOCK, BLOCK)
    return (cut != 0).any(axis=(1, 3))


@pytest.fixture(scope="module")
def whole(config_of, tmp_path_factory):
    """The directory of a run that was never stopped, and its summary."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, launch(config_of(ATTENTION, **WATCHED), folder, quiet)


def test_a_finished_run_launched_again_does_nothing_and_says_so(whole, config_of):
    folder, summary = whole
    said, before = [], contents(folder)
    assert status(folder)["status"] == "done"
    assert launch(config_of(ATTENTION, **WATCHED), folder, tell(said)) == summary
    assert said == [f"{folder}: done before, nothing to do"]
    assert contents(folder) == before


def test_a_run_that_was_killed_behind_its_summary_is_said_to_be_done(whole, config_of, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    workdir.write(folder / "status.json", {**status(folder), "status": "running"})
    assert launch(config_of(ATTENTION, **WATCHED), folder, quiet) == whole[1]
    assert status(folder) == status(whole[0])


@pytest.mark.parametrize("finished", [True, False])
def test_another_config_is_refused_with_the_difference_and_nothing_is_lost(
    whole, config_of, tmp_path, finished
):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    if not finished:
        (folder / "summary.json").unlink()
    before = contents(folder)
    with pytest.raises(ValueError) as error:
        launch(config_of(ATTENTION, **WATCHED, density="0.2", method__clip=True), folder, quiet)
    words = str(error.value)
    assert "belongs to another config" in words
    assert "density: '0.1' there, '0.2' asked" in words
    assert "method.clip: False there, True asked" in words
    assert "seed" not in words
    assert contents(folder) == before


def test_a_run_that_is_done_is_done_wherever_its_data_lie(whole, config_of, tmp_path):
    moved = {"data__root": str(tmp_path), "data__workers": 3, "execution": "sparse"}
    assert launch(config_of(ATTENTION, **WATCHED, **moved), whole[0], quiet) == whole[1]


STOPS = [
    (3, RuntimeError("out of luck"), "failed", 0),
    (14, KeyboardInterrupt(), "preempted", 9),
    (24, RuntimeError("out of luck"), "failed", 18),
    (40, OSError("No space left on device"), "failed", 36),
]


@pytest.mark.parametrize(("stop", "error", "word", "last"), STOPS)
def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bits(
    whole, config_of, tmp_path, monkeypatch, stop, error, word, last
):
    config, folder, said = config_of(ATTENTION, **WATCHED, save_every=9), tmp_path / "run", []
    write = Lines.write

    def until(lines, record):
        assert status(folder)["status"] == "running"
        if record["step"] >= stop:
            raise error
        write(lines, record)

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "write", until)
        with pytest.raises(type(error)):
            launch(config, folder, quiet)
    assert status(folder)["status"] == word
    assert str(error) in status(folder)["cause"]
    launch(config, folder, tell(said))
    assert [text for text in said if "going on from step" in text] == (
        [f"{folder}: going on from step {last}"] if last else []
    )
    assert status(folder)["status"] == "done"
    same_bits(folder, whole[0])


def same_bits(one, other):
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def start(folder, *flags):
    """The command line, in a process with as many devices as this one."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(jax.device_count())}
    command = [sys.executable, "-m", "experiments.train"]
    command += ["--config=configs/digits.py:magnitude,plan=one_shot", f"--workdir={folder}", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def test_a_misspelt_field_is_refused_on_the_command_line(tmp_path):
    process = start(tmp_path / "run", "--config.method.scroe=l1")
    words = process.communicate()[0]
    assert process.returncode != 0
    assert "'scroe'; did you mean 'score'" in words
    assert not (tmp_path / "run").exists()


# One learning rate, so that these share their programs.
CAUSES = {
    "logged": ({"log_every": 1}, "the training loss is nan"),
    "evaluated": ({"evaluate_every": 1}, "the evaluated loss is"),
    "saved": ({"save_every": 1}, "not finite at step"),
    "scored": ({"plan": {"name": "gradual"}}, "not finite at the tick before step 8: .*dense1"),
}


@pytest.mark.parametrize("case", CAUSES)
def test_a_run_that_diverges_says_why_and_keeps_its_last_good_checkpoint(case, config_of, tmp_path):
    changes, cause = CAUSES[case]
    settings = {"optimizer__learning_rate": 1e30, "log_every": 0} | changes
    with pytest.raises(Diverged, match=cause) as error:
        launch(config_of("magnitude,plan=static", **settings), tmp_path, quiet)
    found = status(tmp_path)
    assert (found["status"], found["cause"]) == ("diverged", str(error.value))
    assert not (tmp_path / "summary.json").exists()
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    if case == "saved":
        kept = checkpoint.latest(tmp_path / "checkpoints")
        assert kept == 1
        like = fresh(config_of("magnitude,plan=static", **settings))[1]
        state, _, notes = checkpoint.restore(tmp_path / "checkpoints", like)
        assert notes == []
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.wrapped.params))


def fresh(config):
    """The experiment of a config and the state that a run of it begins with."""
    experiment = assemble(json.loads(json.dumps(config)))
    create = experiment.shared.programs.create
    return experiment, create(jax.random.key(config["seed"]), experiment.inputs)


def test_programs_are_shared_by_seeds_densities_and_plans(config_of, tmp_path):
    # Programs of its own: a dry run in this process traces the steps of those that are shared once more.
    own = functools.partial(config_of, label_smoothing=0.01)
    made = assemble(own(ATTENTION)).shared.programs
    launch(own(ATTENTION), tmp_path / "first", quiet)
    before = dict(made.compilations)
    launch(own(ATTENTION, seed=1), tmp_path / "seed", quiet)
    launch(own(ATTENTION, density="0.3"), tmp_path / "density", quiet)
    assert made.compilations == before
    one_shot, acdc = (f"sequential_attention,plan={plan}" for plan in ("one_shot", "acdc"))
    summary = launch(own(one_shot), tmp_path / "plan", quiet)
    assert assemble(own(acdc, seed=7)).shared.programs is made
    assert {key: n for key, n in made.compilations.items() if n != 1} == {}
    assert summary["compilations"] == len(made.compilations)


def test_the_final_model_is_plain_and_equal_to_the_wrapped_one(whole, config_of):
    experiment, state = fresh(config_of(ATTENTION))
    made, images = experiment.shared.programs, batch(experiment.sets.resident_test, np.arange(64))
    run = Run(made, experiment.plan, experiment.target, feed(experiment), lambda s, c: {})
    state, context = fit(run, state), final_context(experiment.target, experiment.plan)
    applied = made.method.apply(state.wrapped, context).params
    wrapped, _ = experiment.shared.model.apply(applied, state.mutable, images["image"])
    file = load_file(whole[0] / "model.safetensors")
    plain = mlp(file, images["image"])
    assert np.abs(wrapped - plain).max() <= 1e-6 * np.abs(wrapped).max()
    masks = made.masks(state, context)
    for path in KERNELS:
        assert (blocks(file[path]) == masks[path]).all()
        assert not np.signbit(file[path][file[path] == 0]).any()


def mlp(file, images):
    """The network as whoever finds the file would write it."""
    x = jnp.asarray(images).reshape(len(images), -1)
    for layer in ("dense1", "dense2"):
        x = jax.nn.relu(x @ file[f"params/{layer}/kernel"] + file[f"params/{layer}/bias"])
    return x @ file["params/head/kernel"] + file["params/head/bias"]


def test_the_summary_is_what_the_file_holds(whole):
    folder, summary = whole
    file = load_file(folder / "model.safetensors")
    live = {path: int((file[path] != 0).sum()) for path in KERNELS}
    sizes = {path: array.size for path, array in file.items()}
    alive = {path: blocks(file[path]) for path in KERNELS}
    dead = sum((1 - alive[path].mean()) * sizes[path] for path in KERNELS)
    assert {path: int(grid.sum()) for path, grid in alive.items()} == {
        path: grid.size // 10 for path, grid in alive.items()
    }
    assert summary["asked_sparsity"] == 0.9
    assert summary["achieved_sparsity"] == pytest.approx(dead / sum(sizes[p] for p in KERNELS))
    assert summary["parameters"] == sum(sizes.values())
    assert summary["parameters_live"] == sum({**sizes, **live}.values())
    # One example goes once through every matrix.
    matrices = {path: size for path, size in sizes.items() if path.endswith("kernel")}
    assert summary["macs"] == sum(matrices.values())
    assert summary["macs_live"] == sum({**matrices, **live}.values())
    held = batch(assemble(json.loads((folder / "config.json").read_text())).sets.resident_test, ...)
    right = mlp(file, held["image"]).argmax(1) == held["label"]
    assert summary["accuracy"] == pytest.approx(float(right.mean()))
    assert list(read(folder / "metrics.jsonl"))[-1]["accuracy"] == summary["accuracy"]


def test_a_validation_share_is_evaluated_in_place_of_the_test_set(config_of):
    experiment, state = fresh(config_of(data__validation=0.25))
    held = load("digits", split="validation", validation=0.25)
    assert (experiment.sets.test.images == held.images).all()
    assert len(experiment.sets.train.labels) + len(held.labels) == len(
        load("digits", split="train").labels
    )
    context = final_context(experiment.target, experiment.plan)
    scores = evaluation(experiment)(state, context)
    layers = state.wrapped.params["params"].items()
    file = {f"params/{layer}/{name}": w for layer, own in layers for name, w in own.items()}
    images = batch(experiment.sets.resident_test, np.arange(len(held.labels)))["image"]
    right = np.asarray(mlp(file, images)).argmax(1) == held.labels
    assert scores["accuracy"] == pytest.approx(right.mean())


def test_penalties_of_either_form_are_added_and_fall_and_are_one_for_the_group_lasso(
    config_of, tmp_path
):
    sizes = {}
    for form in ("plain", "outer"):
        penalty = {"name": "identity", "strength": 0.02, "form": form, "p": 0.5}
        config = config_of("dense", density="1", penalty=penalty, log_every=10)
        launch(config, tmp_path / form, quiet)
        records = read(tmp_path / form / "metrics.jsonl")
        sizes[form] = [r["penalty"] for r in records if r["event"] == "train"]
    assert sizes["plain"] == sorted(sizes["plain"], reverse=True) and sizes["plain"][-1] > 0
    assert sizes["plain"] == pytest.approx(sizes["outer"], rel=1e-4)


def test_a_proximal_penalty_leaves_blocks_that_are_exactly_zero(config_of, tmp_path):
    penalty = {"name": "identity", "strength": 0.4, "form": "proximal", "p": 0.5}
    launch(config_of("dense", density="1", penalty=penalty), tmp_path, quiet)
    file = load_file(tmp_path / "model.safetensors")
    assert 0 < blocks(file["params/dense2/kernel"]).mean() < 0.9


def test_settling_recomputes_the_statistics_and_touches_no_weight(config_of, tmp_path):
    model = {"name": "cnn", "widths": (8,), "hidden": (16,)}
    files = []
    for settle in (0, 2):
        changes = {"model": model, "blocks__at_least": 1, "density": "0.5", "steps": 8}
        config = config_of("magnitude,plan=static", **changes, settle=settle)
        launch(config, tmp_path / str(settle), quiet)
        files.append(load_file(tmp_path / str(settle) / "model.safetensors"))
    same = {path: (files[0][path] == files[1][path]).all() for path in files[0]}
    statistics = {path for path in same if path.startswith("batch_stats/")}
    assert statistics and {path for path in same if not same[path]} == statistics


def test_a_batch_shared_by_several_devices_trains_as_on_one_and_resumes(
    whole, config_of, tmp_path, monkeypatch
):
    config = config_of(ATTENTION, **WATCHED, devices=4, save_every=9)
    write = Lines.write

    def until(lines, record):
        if record["step"] >= 14:
            raise KeyboardInterrupt
        write(lines, record)

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "write", until)
        with pytest.raises(KeyboardInterrupt):
            launch(config, tmp_path, quiet)
    summary = launch(config, tmp_path, quiet)
    assert summary["loss"] == pytest.approx(whole[1]["loss"], abs=1e-3)
    records = [list(read(folder / "metrics.jsonl")) for folder in (tmp_path, whole[0])]
    assert [r["step"] for r in records[0]] == [r["step"] for r in records[1]]
    experiment = fresh(config)[0]
    source, key = feed(experiment)(0), jax.random.key(0)
    drawn = jax.jit(lambda s: experiment.shared.draw(s, 0, key))(source)["image"]
    assert {shard.data.shape[0] for shard in drawn.addressable_shards} == {128 // 4}
