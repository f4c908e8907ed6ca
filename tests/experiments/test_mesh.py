"""Weights that are shared out train as whole ones, and a run goes on on another mesh than it began on."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from experiments.assembly.assemble import assemble, begun
from experiments.assembly.executed import told
from experiments.running.launch import Session, launch
from sparsity.contract import Context, Signals
from sparsity.plan.phases import Kind, Phase
from sparsity.target import context_of
from sparsity.train.log import Lines
from sparsity.units.partition import leaves
from tests.units.test_sharding import moved

ATTENTION = "sequential_attention,plan=gradual"
# On digits' perceptron: kernels of (64, 256), (256, 256) and (256, 10), blocks of 8x8.
MESHES = {
    "fsdp": {"devices": 8, "mesh__fsdp": 8},
    "model": {"devices": 4, "mesh__model": 4},
    "all three": {"devices": 8, "mesh__fsdp": 2, "mesh__model": 2},
}
slow = pytest.mark.slow
quiet = Session(say=lambda text: None)


def masks(folder):
    """Which entries of a run's final kernels are not 0."""
    return {p: w != 0 for p, w in load_file(folder / "model.safetensors").items() if w.ndim > 1}


def agree(one, other):
    """Within what the order of sums costs."""
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (one, other)]
    assert summaries[0]["loss"] == pytest.approx(summaries[1]["loss"], abs=1e-3)
    assert summaries[0]["achieved_sparsity"] == summaries[1]["achieved_sparsity"]
    first, second = masks(one), masks(other)
    assert all((first[path] == second[path]).mean() >= 0.99 for path in first)


@pytest.fixture(scope="module")
def alone(config_of, tmp_path_factory):
    """argument -> the directory of a run on one device."""
    made = {}

    def of(argument):
        if argument not in made:
            made[argument] = tmp_path_factory.mktemp("alone") / "run"
            launch(config_of(argument), made[argument], quiet)
        return made[argument]

    return of


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("all three", ATTENTION),
        *(pytest.param(name, ATTENTION, marks=slow) for name in ("fsdp", "model")),
        *(pytest.param(name, "magnitude,plan=acdc", marks=slow) for name in MESHES),
        pytest.param("fsdp", "powerprop,plan=gradual,optimizer=adamw", marks=slow),
    ],
)
def test_a_run_on_a_mesh_agrees_with_one_on_a_device(name, argument, alone, config_of, tmp_path):
    launch(config_of(argument, **MESHES[name]), tmp_path / "run", quiet)
    agree(tmp_path / "run", alone(argument))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("all three", {}),
        pytest.param("fsdp", MESHES["all three"], marks=slow),
        pytest.param("", MESHES["fsdp"], marks=slow),
    ],
)
def test_a_run_goes_on_on_another_mesh(first, second, alone, config_of, tmp_path, monkeypatch):
    begins = config_of(ATTENTION, save_every=15, **MESHES.get(first, {}))
    write, said = Lines.write, []

    def until(lines, record):
        if record["step"] >= 20:
            raise KeyboardInterrupt
        write(lines, record)

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "write", until)
        with pytest.raises(KeyboardInterrupt):
            launch({**begins, "log_every": 5}, tmp_path, quiet)
    goes_on = {**config_of(ATTENTION, save_every=15, **second), "log_every": 5}
    launch(goes_on, tmp_path, Session(say=said.append))
    assert f"{tmp_path}: going on from step 15" in said
    now, then = goes_on["mesh"]["fsdp"], begins["mesh"]["fsdp"]
    assert f"mesh.fsdp {then} then and {now} now: its last bits come out otherwise" in said
    agree(tmp_path, alone(ATTENTION))


@pytest.fixture(scope="module")
def shared(config_of):
    """An experiment of which each of eight devices has an eighth of every kernel, and its first state."""
    experiment = assemble(config_of(ATTENTION, **MESHES["fsdp"]))
    return experiment, begun(experiment)


def test_each_device_has_its_share_of_weights_and_moments(shared):
    _, state = shared
    tree = leaves({"params": state.wrapped.params, "opt": state.opt})
    kernels = {path: leaf for path, leaf in tree.items() if leaf.ndim > 1}
    assert len(kernels) == 2 * 3 + 2  # and the moments of two layers' gates
    for leaf in kernels.values():
        assert leaf.addressable_shards[0].data.size * 8 == leaf.size
        assert len({str(shard.index) for shard in leaf.addressable_shards}) == 8
    whole = sum(leaf.size for leaf in tree.values())
    here = sum(leaf.addressable_shards[0].data.size for leaf in tree.values())
    assert here < whole / 8 + 2 * 522 + 10  # biases and counts are on every device


def test_no_device_makes_a_whole_weight(shared):
    experiment, _ = shared
    create = experiment.shared.programs.create.lower(jax.random.key(0), experiment.inputs)
    text = create.compile().as_text()
    assert "f32[256,32]" in text or "f32[32,256]" in text
    assert not [whole for whole in ("[256,256]", "[65536]") if whole in text]


def test_the_units_of_a_weight_lie_with_it(shared):
    experiment, state = shared
    for name, group in experiment.target.partition.items():
        assert state.wrapped.gates[name].addressable_shards[0].data.size * 8 == group.size


def test_the_choice_of_masks_gathers_no_weight(config_of):
    experiment = assemble(config_of("magnitude,plan=gradual", **MESHES["fsdp"]))
    state, made = begun(experiment), experiment.shared.programs
    context = context_of(experiment.target, Phase(Kind.SPARSIFY, 1))
    text = made.tick.lower(state, context, Signals(), dead="kept").compile().as_text()
    units = max(group.size for group in experiment.target.partition.values())
    crossed = [size for kind in ("f32", "s32", "u32", "pred") for _, size in moved(text, kind)]
    assert crossed and max(crossed) <= units < 256 * 256 / 8


def test_a_mask_is_the_same_wherever_equal_scores_lie(config_of):
    """Ties and all: every weight is one of three numbers."""
    found = []
    for mesh in ({}, MESHES["all three"]):
        experiment = assemble(config_of("magnitude,plan=gradual", **mesh))
        state, made = begun(experiment), experiment.shared.programs
        rng = np.random.default_rng(0)
        params = jax.tree.map(
            lambda leaf, r=rng: jax.device_put(
                r.integers(-1, 2, leaf.shape).astype(np.float32), leaf.sharding
            ),
            state.wrapped.params,
        )
        state = state._replace(wrapped=state.wrapped._replace(params=params))
        context: Context = context_of(experiment.target, Phase(Kind.SPARSIFY, 1))
        state, _ = made.tick(state, context, Signals(), dead="kept")
        found.append(jax.device_get(made.masks(state, context)))
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, found[0], other)


def test_live_blocks_of_shared_weights_are_run_masked_and_it_is_said(config_of):
    config = config_of("magnitude,plan=gradual", **MESHES["fsdp"], execution="sparse")
    experiment = assemble(config)
    lines = told(experiment.shared.programs.execution, experiment.target, experiment.plan)
    assert (
        lines[1]
        == "  finetune: masked, as weights are shared out over devices, and kernels take whole ones"
    )
