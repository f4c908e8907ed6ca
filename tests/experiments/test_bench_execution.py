"""The benchmark of execution: what it divides by what, and what its page shows."""

from experiments.bench_execution import CASES, Net, measure
from experiments.reporting.training import page
from experiments.surroundings import surroundings

SMALL = Net("mlp", {"widths": (64,)}, (8, 8, 1), 8, 8, "0.25")


def test_gains_are_the_masked_step_over_the_others_and_the_page_has_them():
    case = "magnitude, dead weights zeroed"
    part = measure(SMALL, CASES[case], 3)
    assert set(part["gains"]) == {"masked again", "sparse", "auto"}
    for name, gain in part["gains"].items():
        assert gain == part["ms"]["masked"] / part["ms"][name]
    assert list(part["layers"]["sparse"]) == ["params/dense1/kernel"]
    results = {
        "command": "python -m experiments.bench_execution",
        "surroundings": surroundings(),
        "parts": [{"net": "small", **SMALL._asdict(), "case": case, "clock": "wall", **part}],
    }
    row = page(results).splitlines()[-1]
    assert row.startswith("| small | 8 | 8x8 | 0.25 | magnitude, dead weights zeroed | wall |")
    assert f"{part['gains']['sparse']:.2f}" in row and "1 sparse" in row
