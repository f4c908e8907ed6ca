"""The benchmark of executions: what it divides by what, what it keeps, what its page shows, what it needs."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import bench_execution
from experiments.benchmarks import execution_nets
from experiments.benchmarks.execution_nets import Net
from experiments.benchmarks.execution_parts import (
    CASES,
    How,
    batch_of,
    begun,
    bench_of,
    force_of,
    measure,
    programs_of,
)
from experiments.reporting.training import page
from experiments.surroundings import surroundings
from sparsity.kernels import tuned
from sparsity.kernels.tuned import Entry
from sparsity.train.execution import choices
from sparsity.units.partition import leaves

ROOT = pathlib.Path(__file__).parents[2]
CASE = "magnitude, dead weights zeroed"
SMALL = Net("mlp", {"widths": (64,)}, (8, 8, 1), 8, 8, "0.25")
# As on a GPU: 16 bits, and perceptrons four times as wide as the transformer.
HALF = Net("mlp", {"widths": (128, 64), "dtype": "bfloat16"}, (8, 8, 1), 8, 16, "0.25")
VIT = {"patch": 4, "width": 64, "heads": (4,), "mlp": (256,), "dtype": "bfloat16"}
HALF_VIT = Net("vit", VIT, (8, 8, 3), 8, 16, "0.25")


def test_gains_are_the_masked_step_over_the_others_and_the_page_has_them():
    part = measure(SMALL, CASES[CASE], How(3, 2))
    assert set(part["gains"]) == {"masked again", "sparse", "auto"}
    for name, gain in part["gains"].items():
        assert gain == part["ms"]["masked"] / part["ms"][name]
    assert list(part["layers"]["sparse"]) == ["params/dense1/kernel"]
    assert part["bytes"]["sparse"] < part["bytes"]["masked"] and part["kernels"] == {}
    parts = [{"net": "small", **SMALL._asdict(), "case": CASE, "clock": "wall", **part}]
    text = page([{"command": "made", "surroundings": surroundings(), "parts": parts}])
    row = next(line for line in text.splitlines() if line.startswith("| small |"))
    assert row.startswith(f"| small | 8 | float32 | 8x8 | 0.25 | {CASE} | wall |")
    assert f"{part['gains']['sparse']:.2f}" in row and "1 sparse" in row
    assert f"At worst `auto` is {part['gains']['auto']:.2f} times" in text


def test_what_is_there_is_not_measured_again_and_other_machines_stay(tmp_path, monkeypatch, capsys):
    other = {"command": "there", "surroundings": {**surroundings(), "device": "gpu of another"}}
    part = {**SMALL._asdict(), "net": "theirs", "case": CASE, "clock": "wall"}
    part |= {"ms": {"masked": 9.0}, "gains": dict.fromkeys(("masked again", "sparse", "auto"), 2.0)}
    part |= {"layers": {"sparse": {}, "auto": {}}}
    part |= {"kernels": {mode: {"count": 7, "ms": 3.25} for mode in ("masked", "sparse", "auto")}}
    file = tmp_path / "training.json"
    file.write_text(json.dumps({"devices": [{**other, "parts": [part]}]}))
    monkeypatch.setitem(execution_nets.CPU, "small", SMALL)
    for case in [name for name in CASES if name != CASE]:
        monkeypatch.delitem(CASES, case)
    flags = ["--nets=small", "--rounds=3", f"--out={tmp_path}"]
    bench_execution.main([*flags, "--minutes=0"])
    assert "1 parts are left after 0 minutes" in capsys.readouterr().out
    bench_execution.main(flags)
    first = file.read_text()
    bench_execution.main(flags)
    assert "0 parts to measure" in capsys.readouterr().out and file.read_text() == first
    theirs, ours = json.loads(first)["devices"]
    assert theirs == {**other, "parts": [json.loads(json.dumps(part))]}
    assert [p["case"] for p in ours["parts"]] == [CASE]
    text = file.with_suffix(".md").read_text()
    assert "## gpu of another" in text and "7 in 3.25 ms, 7 in 3.25 ms, 7 in 3.25 ms" in text


def test_a_net_that_is_not_there_is_named_with_those_that_are(capsys):
    with pytest.raises(SystemExit):
        bench_execution.main(["--nets=wider"])
    assert "no net is called 'wider'; there are: fashion, wide" in capsys.readouterr().err


@pytest.mark.parametrize("name", execution_nets.GPU)
def test_networks_of_a_gpu_have_kernels_for_all_that_is_cut(name):
    bench = bench_of(execution_nets.GPU[name], CASES[CASE])
    made = programs_of(bench, "sparse", "gpu")
    found = choices(made.execution, bench.target, bench.plan, 0)
    assert found and all(choice.way for choice in found.values())
    assert {choice.way.site.dtype for choice in found.values()} == {"bfloat16"}


def stepped(net, mode, case, steps=4):
    """(state, state in dense storage after so many steps, its ways) on this machine; the first if masked."""
    bench = bench_of(net, CASES[case])
    made = programs_of(bench, mode, jax.default_backend())
    now = force_of(bench, made)
    held, batch = begun(bench, made, now), jax.device_put(batch_of(net))
    fresh = jax.device_get(held) if mode == "masked" else None
    for _ in range(steps):
        held = made.train(
            held, batch, now.context, now.span, frozen=now.phase.frozen, dead=now.phase.dead
        )
    return fresh, made.release(held) if now.ways.layers else held, now.ways


@pytest.mark.parametrize(
    ("net", "case"),
    [(HALF, CASE), *(pytest.param(HALF_VIT, case, marks=pytest.mark.slow) for case in CASES)],
)
def test_a_network_in_16_bits_trains_alike_masked_and_on_live_blocks(net, case):
    (fresh, masked, _), (_, sparse, ways) = (
        stepped(net, mode, case) for mode in ("masked", "sparse")
    )
    assert len(ways.layers) == (2 if net == HALF else 6)
    losses = [float(state.sums["loss"]) for state in (masked, sparse)]
    np.testing.assert_allclose(*losses, rtol=1e-2)
    begin, found = leaves(fresh.wrapped.params), leaves(sparse.wrapped.params)
    live = {way.group for way in ways.layers}
    for path, w in leaves(masked.wrapped.params).items():
        # Dead weights that nobody reads again are dropped.
        alive = (found[path] != 0) if path in live else np.ones(w.shape, bool)
        moved = np.abs(w - begin[path]).max()
        assert np.abs(np.where(alive, found[path] - w, 0)).max() <= 0.1 * moved + 1e-6
        assert moved > 0


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """ratio -> every product of 16 bits was measured so much faster than dense on this machine."""
    monkeypatch.setenv("SPARSITY_TUNED", str(tmp_path))
    device = tuned.device_of(jax.default_backend())

    def write(ratio):
        entries = [
            Entry(verb, 32, (64, 256), (16, 16), "bfloat16", None, {0.25: ratio})
            for verb in ("forward", "dx", "dw")
        ]
        (tmp_path / f"{tuned.slug(device)}.json").write_text(tuned.written(entries, device))
        tuned.table_of.cache_clear()

    yield write
    tuned.table_of.cache_clear()


@pytest.mark.parametrize(("ratio", "taken"), [(3.0, True), (0.5, False)])
def test_auto_takes_what_the_table_promises_a_network_in_16_bits(measured, ratio, taken):
    measured(ratio)
    bench = bench_of(HALF_VIT, CASES[CASE])
    made = programs_of(bench, "auto", jax.default_backend())
    found = choices(made.execution, bench.target, bench.plan, 0)["params/layer1/mlp_in/kernel"]
    assert bool(found.way) == taken
    assert "times as fast as dense as measured on" in found.why


# Refuses what a bare machine lacks.
BARE = """
import sys
class Bare:
    def find_spec(self, name, *where):
        if name.split(".")[0] in ("ml_collections", "grain", "matplotlib", "orbax", "tensorflow",
                     "tensorflow_datasets", "importlib_resources", "safetensors", "sklearn"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Bare())
import experiments.bench_execution
"""


def test_it_needs_no_more_than_jax_flax_and_optax():
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", BARE], cwd=ROOT, env=env, check=True)
