"""A family of runs as text, Markdown and JSON: its metrics over the seeds, and how the masks moved."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reporting import files, markdown, terminal
from experiments.reporting.metrics import ACCURACY, Metric
from sparsity.train import log


class Moves(NamedTuple):
    """How a run's masks moved.

    swapped: blocks pruned or revived beyond what the change of the count asks for, as a share of the
             blocks kept, summed over the updates. late: the same over the last quarter of the updates.
    overlap: of each new mask with the one before, the mean over the updates.
    entropy, maximum: of the attention at the last update, the mean over layers; NaN without attention.
    """

    swapped: float
    late: float
    overlap: float
    entropy: float
    maximum: float


class Row(NamedTuple):
    """A point of the family: its runs' metrics as printed, {field: {seed: value}}, causes of failure, moves."""

    name: str
    point: Mapping[str, Any]
    values: Mapping[str, Mapping[int, float]]
    causes: tuple[str, ...]
    moves: tuple[Moves, ...]


def moves(metrics: Path) -> Moves:
    """Those of a run's metrics."""
    ticks = [r["groups"] for r in log.read(metrics) if r["event"] == "tick" and r["groups"]]
    swaps = [_mean(map(_swaps, groups.values())) for groups in ticks]
    overlaps = [_mean(g["overlap"] for g in groups.values()) for groups in ticks]
    last = list(ticks[-1].values()) if ticks else []
    quarter = swaps[3 * len(swaps) // 4 :]
    return Moves(
        sum(swaps),
        sum(quarter),
        _mean(overlaps),
        _mean(g.get("entropy", math.nan) for g in last),
        _mean(g.get("maximum", math.nan) for g in last),
    )


def _swaps(group: Mapping[str, float]) -> float:
    """Blocks that changed places: of those pruned and revived, the lesser number."""
    return 2 * min(group["pruned"], group["revived"]) / max(1, group["alive"])


def _mean(values: Any) -> float:
    found = list(values)
    return statistics.fmean(found) if found else math.nan


def table(rows: Sequence[Row], judged: Sequence[Metric] = (ACCURACY,)) -> list[list[str]]:
    """Rows of texts, with a head."""
    names = [metric.field + " %" * (metric.scale == 100) for metric in judged]
    return [["point", *names, *Moves._fields], *(_cells(row, judged) for row in rows)]


def _cells(row: Row, judged: Sequence[Metric]) -> list[str]:
    numbers = [_mean(of) for of in zip(*row.moves, strict=True)] or [math.nan] * len(Moves._fields)
    first, *others = [_over_seeds(row, metric) for metric in judged]
    if row.causes:
        first += f" ({len(row.causes)} {row.causes[0].split(':')[0]})"
    return [
        row.name or "as it is",
        first.strip(),
        *others,
        *("" if math.isnan(n) else f"{n:.3g}" for n in numbers),
    ]


def _over_seeds(row: Row, metric: Metric) -> str:
    """Mean ± standard deviation; "" where no run has it."""
    found = list(row.values.get(metric.field, {}).values())
    spread = f" ± {metric.text(statistics.stdev(found))}" if len(found) > 1 else ""
    return metric.text(statistics.mean(found)) + spread if found else ""


def text(rows: Sequence[Row], judged: Sequence[Metric] = (ACCURACY,)) -> str:
    """The table for a terminal."""
    return "\n".join(terminal.table(table(rows, judged), left=1))


_MOVED = (
    "swapped: blocks that changed places with others, per block kept, summed over all updates of the masks; "
    "late: the same over the last quarter of the updates; overlap: of each mask with the one before, mean; "
    "entropy (relative to equal numbers) and maximum: of the attention at the last update, mean over layers."
)


def page(
    title: str, rows: Sequence[Row], how: Mapping[str, Any], judged: Sequence[Metric] = (ACCURACY,)
) -> str:
    """The table, what its columns are, and how it was made."""
    validation = how["set"].get("data.validation")
    part = "a validation split cut from the training set" if validation else "the test set"
    better = ", ".join(f"{metric.field} ({metric.better} is better)" for metric in judged)
    columns = f"{better}: on {part}, mean ± standard deviation over the seeds. {_MOVED}"
    fixed = ", ".join(f"{field} {value}" for field, value in how["set"].items())
    seeds = ", ".join(map(str, how["seeds"]))
    made = f"{markdown.provenance(how)}; seeds {seeds}; all with {fixed}. {columns}"
    return markdown.page([f"# {title}", made, markdown.table(table(rows, judged))])


def write(
    stem: Path,
    title: str,
    rows: Sequence[Row],
    how: Mapping[str, Any],
    judged: Sequence[Metric] = (ACCURACY,),
) -> list[Path]:
    """Writes stem.md and .json; returns their paths."""
    data = {
        "title": title,
        "how": how,
        "metrics": [metric._asdict() for metric in judged],
        "rows": [_plain(row) for row in rows],
    }
    return files.write(
        stem, {".md": page(title, rows, how, judged), ".json": json.dumps(data, indent=1) + "\n"}
    )


def _plain(row: Row) -> dict[str, Any]:
    return {**row._asdict(), "moves": [m._asdict() for m in row.moves]}
