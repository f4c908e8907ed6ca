"""A search's trials as text, Markdown and JSON: the best first, and what became of the others."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reporting import files, markdown, terminal
from experiments.reporting.metrics import Metric

SHOWN = 20  # rows on a page; the JSON holds all


class Row(NamedTuple):
    """A trial.

    state: complete, pruned, failed or running. value: of the metric as the runs report it; of a pruned
    trial the last before its end, NaN where there was none. cause: why it has no summary.
    """

    number: int
    state: str
    value: float
    said: str
    run: str
    cause: str


def ordered(rows: Sequence[Row], metric: Metric) -> list[Row]:
    """Complete trials from the best on, then the others in order."""
    done = [row for row in rows if row.state == "complete"]
    rest = [row for row in rows if row.state != "complete"]
    return [*sorted(done, key=lambda row: -metric.sign * row.value), *rest]


def table(rows: Sequence[Row], metric: Metric) -> list[list[str]]:
    """Rows of texts, with a head."""
    head = ["trial", "state", _judged(metric), "sets", "run"]
    return [head, *(_texts(row, metric) for row in ordered(rows, metric))]


def _judged(metric: Metric) -> str:
    """What a table calls after the test set is here of the validation split."""
    return f"validation {metric.name.removeprefix('test ').removeprefix('validation ')}"


def _texts(row: Row, metric: Metric) -> list[str]:
    value = "" if math.isnan(row.value) else metric.text(metric.scale * row.value)
    state = f"{row.state}: {row.cause.splitlines()[0]}" if row.cause else row.state
    return [str(row.number), state, value, row.said, row.run]


def text(rows: Sequence[Row], metric: Metric) -> str:
    """The best for a terminal, and the counts."""
    shown = terminal.table(table(rows, metric)[: SHOWN + 1], left=2)
    return "\n".join([*shown, "", counts(rows)])


def counts(rows: Sequence[Row]) -> str:
    """How many trials there are of each state."""
    states = [row.state for row in rows]
    listed = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{len(rows)} trials: {listed}" if rows else "no trial yet"


def write(
    stem: Path, title: str, rows: Sequence[Row], metric: Metric, how: Mapping[str, Any]
) -> list[Path]:
    """Writes stem.md and .json; returns their paths."""
    made = (
        f"{markdown.provenance(how)}. Judged by {_judged(metric)}, on a split cut "
        f"from the training set; {metric.better} is better. {counts(rows)}. Sampler {how['sampler']}, pruner "
        f"{how['pruner']}; one seed per trial, so that the best is to be run again with others."
    )
    body = markdown.table(table(rows, metric)[: SHOWN + 1])
    data = {"title": title, "how": dict(how), "trials": [_plain(row) for row in rows]}
    page = markdown.page([f"# {title}", made, body])
    return files.write(stem, {".md": page, ".json": json.dumps(data, indent=1) + "\n"})


def _plain(row: Row) -> dict[str, Any]:
    """NaN is no JSON."""
    return {**row._asdict(), "value": None if math.isnan(row.value) else row.value}
