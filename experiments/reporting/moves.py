"""The combinatorial half of a run made visible: how its masks move from choice to choice, per layer."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.reporting import figures, runs
from experiments.reporting.canvas import Style
from experiments.reporting.document import Panel, chip, grid, phase_legend, say
from experiments.reporting.figures import Line
from experiments.reporting.runs import Curve, Trace

Limits = tuple[float | None, float | None]

# What a tick knows of each group, the unit of its axis, the axis's limits, what the picture shows.
_MOVES = (
    ("swapped", "blocks", (0, None), "Blocks swapped: pruned or revived"),
    ("revived", "blocks", (0, None), "Blocks revived"),
    ("overlap", "share of the new mask", (0, 1.05), "What of the new mask was alive before"),
    ("entropy", "of the greatest possible", (None, None), "Entropy of the attention"),
    ("maximum", "attention", (None, None), "Greatest attention of a block"),
    ("at_clip", "share of blocks", (0, 1.05), "Blocks whose attention is at the clip"),
)


def moves(traces: Sequence[Trace], looks: Mapping[str, Style]) -> str:
    """The section: for one run of every method that chooses its masks more than once, its pictures."""
    parts = []
    for trace, *_ in runs.sparsest(traces):
        panels = [panel for move in _MOVES if (panel := _move(trace, looks[trace.label], *move))]
        if panels:
            parts.append(f"<h3>{chip(trace.label, looks[trace.label])}</h3>{grid(panels)}")
    if not parts:
        return say("No run has chosen its masks more than once, so nothing moves.")
    said = (
        "One run per method that chooses its masks more than once; each mark is a choice that prunes, "
        "each line a layer. Lines break where a dense phase lies between."
    )
    return say(said) + phase_legend() + "".join(parts)


def _move(
    trace: Trace, look: Style, name: str, unit: str, limits: Limits, title: str
) -> Panel | None:
    curves = {g: c for g, c in runs.updates(trace, name).items() if len(c.steps) > 1}
    if not curves:
        return None
    named = zip(curves.items(), ("-", "--", ":", "-."), strict=False)
    lines = [Line(_short(group), curve, look, dash=dash) for (group, curve), dash in named]
    if len(curves) > len(lines):
        lines = [_together(list(curves.values()), look)]
    spans, steps = runs.spans(trace), runs.length(trace)
    return Panel(
        title, figures.curves(lines, steps, unit, phases=spans, limits=limits, detailed=True)
    )


def _together(curves: Sequence[Curve], look: Style) -> Line:
    """Many layers as one line: their median, in a band from the least to the greatest."""
    steps = curves[0].steps
    values = np.array([curve.values for curve in curves if curve.steps == steps])
    median = Curve(steps, tuple(np.median(values, axis=0).tolist()))
    label = f"median of {len(values)} layers"
    return Line(label, median, look, band=(values.min(axis=0), values.max(axis=0)))


def _short(group: str) -> str:
    return group.removeprefix("params/").removesuffix("/kernel")
