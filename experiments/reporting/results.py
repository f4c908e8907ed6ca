"""A table's results as cells: an arm at one place, over its seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.reporting.metrics import Metric, metrics
from experiments.reporting.places import place_of

Results = Mapping[str, Any]


class Cell(NamedTuple):
    """An arm at one place.

    values:   of the metric, as printed, by seed; causes: of the runs that have none.
    asked, achieved: sparsity of blocks, in [0, 1). hours: of all devices of all its runs together.
    network:  sparsity of all weight matrices and kernels, those that stay dense included.
    latency:  milliseconds of a batch through the final model, {"dense": .., "block_sparse": ..}, means
              over the runs that were measured.
    """

    values: Mapping[int, float]
    causes: tuple[str, ...] = ()
    asked: float = math.nan
    achieved: float = math.nan
    hours: float = 0.0
    latency: Mapping[str, float] = {}
    network: float = math.nan

    @property
    def mean(self) -> float:
        """NaN where no run has ended."""
        return statistics.mean(self.values.values()) if self.values else math.nan

    @property
    def sd(self) -> float:
        """Standard deviation over the seeds; NaN for fewer than two."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else math.nan


Grid = dict[str, dict[str, Cell]]


def grid(found: Results, metric: Metric | None = None) -> Grid:
    """{arm: {place: cell}} by the metric, or the first; a dense arm has the one place ""."""
    metric = metric or metrics(found)[0]
    cells: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for run in found["runs"]:
        cells.setdefault(run["arm"], {}).setdefault(place_of(run["cell"]), []).append(run)
    return {
        arm: {place: _cell(runs, metric) for place, runs in own.items()}
        for arm, own in cells.items()
    }


def _cell(runs: Sequence[Mapping[str, Any]], metric: Metric) -> Cell:
    ended = [run for run in runs if run["summary"]]
    first = ended[0]["summary"] if ended else {}
    return Cell(
        {
            r["seed"]: metric.scale * r["summary"][metric.field]
            for r in ended
            if metric.field in r["summary"]
        },
        tuple(run["cause"] for run in runs if run["cause"]),
        first.get("asked_sparsity", math.nan),
        first.get("achieved_sparsity", math.nan),
        sum(r["summary"].get("seconds", 0.0) * r.get("devices", 1) for r in ended) / 3600,
        _latency([run["latency"] for run in ended if run.get("latency")]),
        first.get("network_sparsity", math.nan),
    )


def _latency(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    kinds = dict.fromkeys(kind for one in found for kind in one)
    return {kind: statistics.mean(one[kind] for one in found if kind in one) for kind in kinds}


def shown(cell: Cell, metric: Metric) -> str:
    """A cell in words: mean ± sd, and what became of the runs that have none; "" where nothing was run."""
    words = metric.text(cell.mean) if cell.values else ""
    words += f" ± {metric.text(cell.sd)}" if len(cell.values) > 1 else ""
    return f"{words} {_ends(cell)}".strip()


def _ends(cell: Cell) -> str:
    """How many runs diverged or failed; of a cell that has no other, the word alone."""
    if not cell.causes:
        return ""
    diverged = all(cause.startswith("Diverged") for cause in cell.causes)
    word = "diverged" if diverged else "failed"
    return f"({len(cell.causes)} {word})" if cell.values else word
