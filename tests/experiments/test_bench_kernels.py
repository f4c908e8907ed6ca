"""The benchmark of kernels measures each part once, keeps what it has, and runs on a bare machine."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments import bench_kernels
from experiments.benchmarks import kernel_programs, kernel_table
from experiments.benchmarks.kernel_layers import Layer, chosen, layers
from experiments.benchmarks.kernel_parts import Part, measure
from experiments.reporting import kernels
from sparsity.kernels import tuned
from sparsity.kernels.geometry import geometry_of

ROOT = pathlib.Path(__file__).parents[2]
GEOMETRY = geometry_of((5, 5, 8), (3, 3), (1, 1), "SAME")
TINY = Layer("tiny", 16, (64, 48), (8, 16), ("float32",))
WINDOWS = Layer("tiny 3x3", 2, (72, 16), (8,), ("float32",), GEOMETRY)
RATIOS = {"50": 0.9, "10": 5.0}


def part_of(layer, block, **ratios):
    """A measured part, as a file of results holds it."""
    verbs = dict.fromkeys(kernels.VERBS, RATIOS) | ratios
    ms = dict.fromkeys(("forward", "dX", "dW", "step"), 2.0)
    return {
        "layer": layer.name,
        "count": layer.count,
        "shape": layer.shape,
        "geometry": layer.geometry,
        "dtype": "float32",
        "block": block,
        "load": 1.0,
        "dense ms": ms,
        "ratios": verbs,
        "best": verbs,
        "fall-back": dict.fromkeys(ms, 0.98),
    }


def results_of(*parts):
    """A file of results of this machine, as it is read back."""
    made = bench_kernels.held(pathlib.Path("none"), bench_kernels.surroundings())
    return json.loads(json.dumps(made | {"bandwidth": 1e10, "parts": list(parts)}))


@pytest.mark.parametrize("layer", [TINY, WINDOWS])
def test_a_part_holds_every_product_at_every_density(layer):
    part = measure(Part(layer, "float32", 8, (50, 10), layer is TINY), 3)
    names = set(kernels.VERBS) | ({"jax BCSR", "scipy BSR"} if layer is TINY else set())
    assert names <= set(part["ratios"])
    assert all(list(ratios) == ["50", "10"] for ratios in part["ratios"].values())
    assert all(r > 0 for ratios in part["ratios"].values() for r in ratios.values())
    assert set(part["fall-back"]) == set(part["dense ms"])


def test_parts_that_are_there_are_not_measured_again(tmp_path, capsys):
    flags = ["--layers=Criteo", "--blocks=20", "--densities=5", "--rounds=3"]
    run = lambda: bench_kernels.main([*flags, "--cores=1", f"--out={tmp_path}"])
    cores = os.sched_getaffinity(0)
    try:
        run()
        (file,) = tmp_path.glob("*.json")
        first = file.read_text()
        assert "1 parts to measure" in capsys.readouterr().out
        run()
    finally:
        os.sched_setaffinity(0, cores)
    assert "0 parts to measure" in capsys.readouterr().out and file.read_text() == first
    page = (tmp_path / "README.md").read_text()
    assert "| Criteo's first layer | float32 | 20 |" in page
    for name in tmp_path.glob("*.svg"):
        assert f"({name.name})" in page


def test_figures_of_other_surroundings_are_not_kept(tmp_path):
    here, file = bench_kernels.surroundings(), tmp_path / "results.json"
    file.write_text(json.dumps(results_of(part_of(TINY, 8))))
    assert len(bench_kernels.held(file, here)["parts"]) == 1
    assert bench_kernels.held(file, here | {"jax": "0.1"})["parts"] == []
    assert bench_kernels.held(tmp_path / "none.json", here)["parts"] == []


def test_no_part_starts_after_the_minutes_that_are_given(tmp_path, capsys):
    asked = bench_kernels.parsed(["--minutes=0", "--layers=Criteo", f"--out={tmp_path}"])
    bench_kernels.run(asked)
    assert "3 parts are left after 0 minutes; call again" in capsys.readouterr().out


def test_the_table_holds_what_was_measured(tmp_path):
    found = results_of(part_of(TINY, 8), part_of(WINDOWS, 8, dW={"10": 2.0}))
    file = kernel_table.write(found, tmp_path)
    table, problem = tuned.look_up(tmp_path, found["surroundings"]["device"])
    assert table is not None and not problem and file.parent == tmp_path
    assert [entry.verb for entry in table.entries] == ["forward", "dx", "dw"] * 2
    assert table.entries[0].ratios == {0.5: 0.9, 0.1: 5.0} and table.entries[5].ratios == {0.1: 2.0}
    assert table.entries[3].geometry == GEOMETRY
    with pytest.raises(ValueError, match="nothing has been measured"):
        kernel_table.entries(results_of())


def test_the_models_error_is_that_of_its_ratios():
    exact = [e._replace(ratios={}) for e in kernel_table.entries(results_of(part_of(TINY, 8)))]
    predicted = lambda e, d: kernel_table.model.predicted("cpu", e.at(d))
    right = [e._replace(ratios={d: predicted(e, d) for d in (0.5, 0.1)}) for e in exact]
    assert kernel_table.error("cpu", right) == (1.0, 1.0, 0, 6)
    twice = [e._replace(ratios={d: 2 * r for d, r in e.ratios.items()}) for e in right]
    assert kernel_table.error("cpu", twice)[:2] == pytest.approx((2.0, 2.0))


def test_the_page_says_what_loses_and_what_nobody_measured():
    made = kernels.pages([results_of(part_of(TINY, 8), part_of(WINDOWS, 8))], drawn=True)
    page = made["README.md"]
    assert "tiny 3x3 (float32, block 8) from 50% up" in page
    # A kernel at 0.9 and a fall-back at 0.98: what runs is the latter.
    assert "forward at least 0.98 (tiny 3x3, float32, block 8, 50%), below 0.97 in 0 of 4" in page
    assert "NVIDIA H200: unmeasured" in page and "TPU v5e: unmeasured" in page
    assert "is off by a factor of" in page and "| tiny | float32 | 8 | 0.90 | 5.00 |" in page
    pictures = [name for name in made if name.endswith(".svg")]
    assert len(pictures) == 2 and all(f"({name})" in page for name in pictures)


def test_pages_are_made_without_pictures_on_a_bare_machine():
    made = kernels.pages([results_of(part_of(TINY, 8))], drawn=False)
    assert not any(name.endswith(".svg") for name in made) and "![" not in made["README.md"]


def test_the_files_of_other_benchmarks_are_linked_and_not_read(tmp_path):
    (tmp_path / "other.json").write_text('{"parts": {}}')
    (tmp_path / "other.md").write_text("# Another")
    (tmp_path / "mine.json").write_text(json.dumps(results_of(part_of(TINY, 8))))
    bench_kernels.main(["--page", f"--out={tmp_path}"])
    page = (tmp_path / "README.md").read_text()
    assert "| tiny | float32 | 8 |" in page and "Beside this: [other.md](other.md)." in page


def test_what_no_kernel_serves_is_said_and_not_measured():
    found = results_of(part_of(TINY, 8))
    odd = [Part(TINY, dtype, 16, (50,), False) for dtype in ("float16", "float32")]
    assert bench_kernels.missing_from(found, odd) == odd[1:]
    page = kernels.pages([found], drawn=False)["README.md"]
    assert "- tiny (float16, block 16): the CPU's kernel is for float32 and bfloat16" in page


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_layers_have_names_of_their_own_and_exact_densities(platform):
    found = layers(platform)
    assert len({layer.name for layer in found}) == len(found)
    (criteo,) = chosen(found, ["Criteo"])
    _, layout = kernel_programs.held(criteo, "float32", 20, 10)
    assert layout.shape == criteo.shape and int(layout.count) == layout.capacity
    with pytest.raises(ValueError, match="no layer's name holds LSTM; there are: "):
        chosen(found, ["LSTM"])


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--densities=0,10", "per cent in"),
        ("--rounds=2", "at least 3 rounds"),
        ("--cores=0", "cores to use here, not 0"),
        ("--blocks=big", "invalid"),
    ],
)
def test_a_command_line_that_cannot_run_is_refused(flag, words, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        bench_kernels.main([flag, f"--out={tmp_path}"])
    assert words in capsys.readouterr().err and not list(tmp_path.iterdir())


# Refuses what a bare machine lacks; jax itself looks for absl, and goes on without it.
BARE = """
import sys
class Bare:
    def find_spec(self, name, *where):
        if name.split(".")[0] in ("absl", "ml_collections", "flax", "optax", "grain", "matplotlib"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Bare())
import experiments.bench_kernels
"""


def test_it_needs_nothing_but_jax():
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", BARE], cwd=ROOT, env=env, check=True)


def test_the_page_leaves_out_other_results_of_its_folder(tmp_path):
    # As `bench_execution` writes them there.
    (tmp_path / "training.json").write_text('{"surroundings": {}, "parts": [{"net": "vit"}]}')
    bench_kernels.main(["--page", f"--out={tmp_path}"])
    assert (tmp_path / "README.md").read_text().startswith("# ")
    assert {file.name for file in tmp_path.iterdir()} == {"training.json", "README.md"}
