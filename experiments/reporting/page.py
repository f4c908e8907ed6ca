"""The report of a grid of runs, or of one: the table, the pictures, and how they were made."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting import runs
from experiments.reporting.canvas import Style, styles
from experiments.reporting.comparison import completed, table
from experiments.reporting.document import Panel, Section, facts, grid, page, save, say
from experiments.reporting.moves import moves
from experiments.reporting.provenance import lead, surroundings
from experiments.reporting.runs import Trace
from experiments.reporting.sections import masks, metrics, plans
from experiments.reporting.tradeoff import Scale, tradeoff

Entry = tuple[str, str, int, Path]
Row = Mapping[str, Any]
Looks = Mapping[str, Style]

# A second picture shows what has at most this many times the error of the best.
_ZOOM = 4


def write(
    path: Path,
    entries: Sequence[Entry],
    rows: Sequence[Row],
    known: Mapping[str, Any],
    *,
    title: str = "Block sparsity",
) -> Path:
    """Writes the document of `of_runs` whole or not at all, and returns where."""
    return save(path, of_runs(entries, rows, known, title=title))


def of_runs(
    entries: Sequence[Entry],
    rows: Sequence[Row],
    known: Mapping[str, Any],
    *,
    title: str = "Block sparsity",
) -> str:
    """The document of runs, finished or not.

    entries: (label, density, seed, directory) of every run that belongs to it. rows: the table, one
    mapping per label and sparsity with method, asked, achieved, accuracy, sd (percent; None of a single
    seed), seeds, parameters and macs. known: how it was run, in the order in which it is told.
    """
    if not entries:
        return page(title, (), say("There is nothing to report: the list of runs is empty."))
    return of_traces([runs.read(*entry) for entry in entries], rows, known, title=title)


def of_traces(
    traces: Sequence[Trace],
    rows: Sequence[Row],
    known: Mapping[str, Any],
    *,
    title: str,
    first: Sequence[Section] = (),
) -> str:
    """The document of runs that are read already, one at least; first: sections before the others."""
    looks = styles([trace.label for trace in traces])
    full = completed(rows, traces)
    noted = {k: v for k, v in surroundings(traces).items() if k not in known}
    sections = (
        *first,
        Section("What came out", table(full, traces, looks)),
        Section("Accuracy against sparsity", _accuracy(full, traces, looks)),
        Section("The plans: sparsity over time", plans(traces, looks)),
        Section("Which blocks are left", masks(traces, looks)),
        Section("Loss and accuracy over time", metrics(traces, looks)),
        Section("How the masks move", moves(traces, looks)),
        Section("How it was run", facts({**known, **noted})),
    )
    return page(title, sections, lead(traces))


def _accuracy(rows: Sequence[Row], traces: Sequence[Trace], looks: Looks) -> str:
    if len(rows) < 2 or not any(row["asked"] > 0 for row in rows):
        return say("Less than two methods or sparsities are finished: there is nothing to compare.")
    title = f"Accuracy on {runs.evaluated_on(traces)}, by the sparsity asked"
    panels = [Panel(title, tradeoff(rows, looks))]
    lowest = 100 - math.ceil(_ZOOM * (100 - max(row["accuracy"] for row in rows)))
    if any(row["accuracy"] < lowest for row in rows):
        closer = tradeoff(rows, looks, Scale(worst=lowest))
        panels.append(Panel(f"The same from {lowest}% on", closer))
    said = (
        "Means over the seeds with bars of one standard deviation; the dots are single seeds. Methods "
        "stand side by side at each sparsity, so that their bars can be told apart. The dashed line and "
        "its band are the dense network."
    )
    return say(said) + grid(panels, "pair")
