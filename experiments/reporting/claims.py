"""What became of a table's claims: the difference of two arms, against the spread over the seeds."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

from experiments.reporting.metrics import Metric, metrics
from experiments.reporting.places import place_of
from experiments.reporting.results import Cell, Results, grid

SIDES = ("better", "worse")


def claims(found: Results) -> list[dict[str, Any]]:
    """Per claim and place: by how much the better arm is better, its spread, and whether it held.

    Arms are paired by seed: the difference of two runs of one seed, its mean, and the standard error of
    that mean; above 0 is better, whichever way the metric goes. "held" is a mean above two standard
    errors, "not held" one below minus two, else "within the spread". One pair has a difference and no verdict.
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
    """The paired difference of two cells, its standard error and the verdict; NaN where there is none."""
    pairs = _paired(better.values, worse.values) if better and worse else []
    if len(pairs) < 2:
        alone = metric.sign * (pairs[0][0] - pairs[0][1]) if pairs else math.nan
        return {"points": alone, "error": math.nan, "verdict": "one seed" if pairs else ""}
    each = [metric.sign * (one - other) for one, other in pairs]
    mean, error = statistics.mean(each), statistics.stdev(each) / math.sqrt(len(each))
    held = "held" if mean > 2 * error else "not held" if mean < -2 * error else "within the spread"
    return {"points": mean, "error": error, "verdict": held}


def _paired(better: Mapping[int, float], worse: Mapping[int, float]) -> list[tuple[float, float]]:
    """The values of the seeds that both have."""
    return [(better[seed], worse[seed]) for seed in sorted(better.keys() & worse.keys())]


def rows(found: Results) -> list[list[str]]:
    """A head, then a row of texts per claim."""
    metric = metrics(found)[0]
    head = ["claim", *(place_of(cell) for cell in found["cells"])]
    named: dict[str, dict[str, str]] = {}
    for line in claims(found):
        error = "" if math.isnan(line["error"]) else f" ± {metric.text(line['error'])}"
        numbers = metric.signed(line["points"]) + error
        words = f"{numbers} {line['verdict']}" if line["verdict"] else ""
        named.setdefault(line["claim"], {})[line["place"]] = words
    return [head, *([claim, *(own[place] for place in head[1:])] for claim, own in named.items())]
