"""The demo's laws: a whole grid, a true table, and no run that is done twice."""

import itertools
import json

import pytest

from experiments import demo
from experiments.reporting import page, rows

STEPS = 40


def test_the_grid_is_dense_and_every_other_entry_at_two_sparsities_with_three_seeds():
    cells = demo.grid()
    assert cells[:3] == [demo.Cell(demo.DENSE, "1", seed) for seed in range(3)]
    assert len(demo.ENTRIES) == 6 and len(demo.DENSITIES) == 2 and len(demo.SEEDS) == 3
    assert set(cells[3:]) == {
        demo.Cell(*choice) for choice in itertools.product(demo.ENTRIES, demo.DENSITIES, demo.SEEDS)
    }
    assert len({cell.folder for cell in cells}) == len(cells) == 39


def test_runs_differ_in_method_plan_density_and_seed_alone():
    configs = [demo.config_of(cell, 800) for cell in demo.grid()]
    shared = [{**c, "method": 0, "plan": 0, "density": 0, "seed": 0} for c in configs]
    assert all(config == shared[0] for config in shared)
    assert shared[0]["steps"] == 800


def summary(accuracy, live, macs):
    return {
        "asked_sparsity": 0.9,
        "achieved_sparsity": 0.9009,
        "accuracy": accuracy,
        "parameters_live": live,
        "macs_live": macs,
        "steps": STEPS,
        "seconds": 2.0,
    }


def test_rows_are_means_and_standard_deviations_over_the_seeds():
    one, other = demo.ENTRIES[:2]
    results = {
        demo.Cell(one, "0.1", 0): summary(0.90, 1000, 2000),
        demo.Cell(one, "0.1", 1): summary(0.92, 1001, 2001),
        demo.Cell(one, "0.1", 2): summary(0.94, 1004, 2002),
        demo.Cell(other, "0.1", 0): summary(0.5, 12345, 2),
    }
    first, second = demo.table(results)
    assert (first["method"], first["seeds"]) == (one.label, 3)
    assert first["accuracy"] == pytest.approx(92.0) and first["sd"] == pytest.approx(2.0)
    assert (first["parameters"], first["macs"]) == (1002, 2001)
    assert (second["seeds"], second["sd"]) == (1, None)
    lines = rows.text([first, second]).splitlines()
    assert lines[1].split("  ")[0] == one.label
    assert lines[1].split()[-8:] == ["90%", "90.09%", "92.00", "±", "2.00", "3", "1,002", "2,001"]
    assert lines[2].split()[-6:] == ["90%", "90.09%", "50.00", "1", "12,345", "2"]
    assert len({len(line) for line in lines}) == 1


@pytest.fixture
def small(monkeypatch):
    """A grid of four runs."""
    monkeypatch.setattr(demo, "ENTRIES", demo.ENTRIES[:1])
    monkeypatch.setattr(demo, "DENSITIES", ("0.1",))
    monkeypatch.setattr(demo, "SEEDS", (0, 1))


def test_runs_that_are_done_are_skipped_and_unfinished_ones_are_run_again(small, tmp_path, capsys):
    first = demo.run(tmp_path, STEPS)
    assert list(first) == demo.grid() and len(first) == 4
    assert "skipped" not in capsys.readouterr().out
    table = demo.table(first)
    assert [(row["method"], row["seeds"]) for row in table] == [
        ("dense", 2),
        ("random, from the start", 2),
    ]
    written = tmp_path / "report.html"
    page.write(written, demo.entries(first, tmp_path), table, demo.facts(first, 1.0))
    assert "random, from the start" in written.read_text(encoding="utf-8")

    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert demo.run(tmp_path, STEPS) == first
    assert "4 of 4 runs are done and are skipped" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps

    lost = demo.grid()[-1]
    (tmp_path / lost.folder / "summary.json").unlink()
    again = demo.run(tmp_path, STEPS)
    said = capsys.readouterr().out
    assert "3 of 4 runs are done" in said
    assert f"unfinished and run again: {lost.folder}" in said
    assert again[lost]["accuracy"] == first[lost]["accuracy"]
    assert json.loads((tmp_path / lost.folder / "status.json").read_text())["status"] == "done"

    with pytest.raises(ValueError, match="steps: 40 there, 50 asked"):
        demo.run(tmp_path, 50)
