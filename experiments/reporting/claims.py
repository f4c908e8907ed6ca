"""What became of a table's claims: the difference of two arms, against the spread over the seeds."""

import math
import statistics
from typing import Any

from experiments.reporting.metrics import Metric, metrics
from experiments.reporting.places import place_of
from experiments.reporting.results import Cell, Results, grid

SIDES = ("better", "worse")


def claims(found: Results) -> list[dict[str, Any]]:
    """Per claim and place: by how much the better arm is better, its spread, and whether it held.

    Arms are paired by seed: the difference of two runs of one seed, its mean, and the standard error of
    that mean; above 0 is better, whichever way the metric goes. "held" is a mean above two standard
    errors, "not held" one below minus two, else "within the spread".
    """
    cells, metric, lines = grid(found), metrics(found)[0], []
    for claim in found["claims"]:
        for cell in found["cells"]:
            place = place_of(cell)
            better, worse = (cells.get(claim[side], {}).get(place) for side in SIDES)
            made = {"claim": claim["claim"], "place": place, "cell": cell}
            lines.append({**made, **difference(better, worse, metric)})
    return lines


def difference(better: Cell | None, worse: Cell | None, metric: Metric) -> dict[str, Any]:
    """The paired difference of two cells, its standard error and the verdict; NaN for under two pairs."""
    shared = better.values.keys() & worse.values.keys() if better and worse else set()
    if not better or not worse or len(shared) < 2:
        return {"points": math.nan, "error": math.nan, "verdict": ""}
    each = [metric.sign * (better.values[seed] - worse.values[seed]) for seed in sorted(shared)]
    mean, error = statistics.mean(each), statistics.stdev(each) / math.sqrt(len(each))
    held = "held" if mean > 2 * error else "not held" if mean < -2 * error else "within the spread"
    return {"points": mean, "error": error, "verdict": held}


def rows(found: Results) -> list[list[str]]:
    """A head, then a row of texts per claim."""
    metric = metrics(found)[0]
    head = ["claim", *(place_of(cell) for cell in found["cells"])]
    named: dict[str, dict[str, str]] = {}
    for line in claims(found):
        numbers = f"{metric.signed(line['points'])} ± {metric.text(line['error'])}"
        words = f"{numbers} {line['verdict']}" if line["verdict"] else ""
        named.setdefault(line["claim"], {})[line["place"]] = words
    return [head, *([claim, *(own[place] for place in head[1:])] for claim, own in named.items())]
