"""The report of a grid of runs, or of one: the table, the pictures, and how they were made."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.reporting import figures, runs
from experiments.reporting.canvas import Style, styles
from experiments.reporting.comparison import completed, table
from experiments.reporting.document import (
    Panel,
    Section,
    chip,
    facts,
    grid,
    legend,
    page,
    phase_legend,
    save,
    say,
)
from experiments.reporting.figures import Line
from experiments.reporting.moves import moves
from experiments.reporting.provenance import lead, surroundings
from experiments.reporting.runs import Trace

Entry = tuple[str, str, int, Path]
Row = Mapping[str, Any]
Looks = Mapping[str, Style]

# A mask of more blocks than this makes a picture that is heavier than it is clear.
_DRAWABLE = 4096
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
    traces = [runs.read(*entry) for entry in entries]
    looks = styles([trace.label for trace in traces])
    full = completed(rows, traces)
    noted = {k: v for k, v in surroundings(traces).items() if k not in known}
    sections = (
        Section("What came out", table(full, traces, looks)),
        Section("Accuracy against sparsity", _accuracy(full, traces, looks)),
        Section("The plans: sparsity over time", _plans(traces, looks)),
        Section("Which blocks are left", _masks(traces, looks)),
        Section("Loss and accuracy over time", _metrics(traces, looks)),
        Section("How the masks move", moves(traces, looks)),
        Section("How it was run", facts({**known, **noted})),
    )
    return page(title, sections, lead(traces))


def _accuracy(rows: Sequence[Row], traces: Sequence[Trace], looks: Looks) -> str:
    if len(rows) < 2 or not any(row["asked"] > 0 for row in rows):
        return say("Less than two methods or sparsities are finished: there is nothing to compare.")
    title = f"Accuracy on {runs.evaluated_on(traces)}, by the sparsity asked"
    panels = [Panel(title, figures.accuracy_against_sparsity(rows, looks))]
    lowest = 100 - math.ceil(_ZOOM * (100 - max(row["accuracy"] for row in rows)))
    if any(row["accuracy"] < lowest for row in rows):
        closer = figures.accuracy_against_sparsity(rows, looks, lowest)
        panels.append(Panel(f"The same from {lowest}% on", closer))
    said = (
        "Means over the seeds with bars of one standard deviation; the dots are single seeds. Methods "
        "stand side by side at each sparsity, so that their bars can be told apart. The dashed line and "
        "its band are the dense network."
    )
    return say(said) + grid(panels, "pair")


def _plans(traces: Sequence[Trace], looks: Looks) -> str:
    panels = []
    for trace, *_ in runs.sparsest(traces):
        curve, spans, look = runs.sparsity(trace), runs.spans(trace), looks[trace.label]
        if curve.steps:
            svg = figures.sparsity_over_time(curve, spans, runs.length(trace), look)
            title = f"{chip(trace.label, look)}"
            panels.append(Panel(title, svg, f"{_phases(spans)}; asked {100 * trace.asked:.4g}%"))
    if not panels:
        return say("No run has begun, so there is no plan to draw.")
    shown = "The share of blocks that the masks in force remove, at the highest sparsity of each method."
    return say(shown) + phase_legend() + grid(panels)


def _phases(spans: Sequence[runs.Span]) -> str:
    steps: dict[str, int] = {}
    for span in spans:
        steps[span.kind] = steps.get(span.kind, 0) + span.stop - span.start
    return "steps: " + ", ".join(f"{count:,} {kind}" for kind, count in steps.items())


def _masks(traces: Sequence[Trace], looks: Looks) -> str:
    """One layer of every method; every layer that can be drawn, of a single run."""
    shown = [(own[0], runs.masks(own[0])) for own in runs.sparsest(traces) if own[0].asked > 0]
    shown = [(trace, masks) for trace, masks in shown if masks]
    if not shown:
        return say("No sparse run has exported its model yet, so there are no masks to draw.")
    layer = _layer(shown[0][1])
    panels = []
    for trace, masks in shown:
        names = list(masks) if len(shown) == 1 else [layer]
        for name in (n for n in names if n in masks and (masks[n].size <= _DRAWABLE or n == layer)):
            label = chip(trace.label if len(shown) > 1 else name, looks[trace.label])
            svg = figures.block_mask(masks[name], looks[trace.label])
            panels.append(Panel(label, svg, _alive(masks[name])))
    trace = shown[0][0]
    what = f"the layer {layer}" if len(shown) > 1 else "each layer"
    said = f"The blocks of {what} at {100 * trace.asked:.4g}% sparsity, seed {trace.seed}: filled is alive."
    return say(said) + grid(panels, "small")


def _layer(masks: Mapping[str, np.ndarray]) -> str:
    """The largest layer that is still clear to draw, or the smallest there is."""
    small = {name: mask.size for name, mask in masks.items() if mask.size <= _DRAWABLE}
    return max(small, key=small.__getitem__) if small else min(masks, key=lambda n: masks[n].size)


def _alive(mask: np.ndarray) -> str:
    rows, cols = (int(np.sum(~mask.any(axis=axis))) for axis in (1, 0))
    return (
        f"{int(np.count_nonzero(mask)):,} of {mask.size:,} blocks alive; nothing is left in {rows} of "
        f"{mask.shape[0]} rows and {cols} of {mask.shape[1]} columns"
    )


def _metrics(traces: Sequence[Trace], looks: Looks) -> str:
    chosen = runs.sparsest(traces)
    panels = []
    for event, where in (("train", "training batches"), ("eval", runs.evaluated_on(traces))):
        for name, unit, scale in (("loss", "loss", 1.0), ("accuracy", "accuracy (%)", 100.0)):
            lines = _means(chosen, looks, event, name, scale)
            if any(len(line.curve.steps) > 1 for line in lines):
                steps = max(runs.length(trace) for own in chosen for trace in own)
                svg = figures.curves(lines, steps, unit, log=name == "loss")
                panels.append(Panel(f"{name.capitalize()} on {where}", svg))
    if not panels:
        return say("No run has logged a metric more than once.")
    said = "Means over the seeds, at the highest sparsity of each method."
    if len(panels) < 4:
        said += " What was logged once, at the end, is not drawn."
    names = [chip(own[0].label, looks[own[0].label]) for own in chosen]
    return say(said) + legend(names) + grid(panels, "pair")


def _means(
    chosen: Sequence[Sequence[Trace]], looks: Looks, event: str, name: str, scale: float
) -> list[Line]:
    lines = []
    for own in chosen:
        curve = runs.mean([runs.series(trace, event, name) for trace in own])
        curve = curve._replace(values=tuple(scale * value for value in curve.values))
        if curve.steps:
            lines.append(Line(own[0].label, curve, looks[own[0].label]))
    return lines
