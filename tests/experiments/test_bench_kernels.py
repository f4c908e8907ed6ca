"""The benchmark of kernels measures each part once, keeps what it has, and runs on a bare machine."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from experiments import bench_kernels
from experiments.reporting.kernels import VERBS

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ["--shape=16,64,64", "--blocks=8,16", "--rounds=3"]


def measured(out: pathlib.Path, *flags: str) -> dict:
    """The results of a small benchmark."""
    bench_kernels.main([*SMALL, *flags, f"--out={out}"])
    (file,) = out.glob("*.json")
    return json.loads(file.read_text())


def test_what_was_measured_is_kept_and_the_page_holds_it(tmp_path):
    first = measured(tmp_path, "--densities=50")
    second = measured(tmp_path, "--densities=50,10", "--peers")
    parts = {(part["block"], part["percent"]): part for part in second["parts"]}
    assert list(parts) == [(8, 50), (8, 10), (16, 50), (16, 10)]
    assert [parts[8, 50], parts[16, 50]] == first["parts"]
    assert set(VERBS) <= set(parts[8, 10]["ratios"]) and "peer scipy BSR" in parts[8, 10]["ratios"]
    assert all(ratio > 0 for part in second["parts"] for ratio in part["ratios"].values())
    (page,) = tmp_path.glob("*.md")
    rows = [line for line in page.read_text().splitlines() if line.startswith(("| 8 |", "| 16 |"))]
    assert len(rows) == 4 and f"{parts[16, 10]['ratios']['step']:.2f}" in rows[3]


def test_figures_of_other_surroundings_are_not_kept(tmp_path):
    measured(tmp_path, "--densities=50")
    (file,) = tmp_path.glob("*.json")
    found = json.loads(file.read_text())
    found["surroundings"]["jax"] = "0.1"
    found["parts"][0]["ms"]["step"] = -1.0
    file.write_text(json.dumps(found))
    again = measured(tmp_path, "--densities=50")
    assert all(part["ms"]["step"] > 0 for part in again["parts"])


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--shape=16,64", "three positive integers"),
        ("--densities=0,10", "per cent in"),
        ("--rounds=2", "at least 3 rounds"),
        ("--dtype=int8", "invalid choice"),
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
