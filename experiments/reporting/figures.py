"""Pictures of runs: each takes plain values and returns one SVG element, ready to stand in a page."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from experiments.reporting.canvas import CELL, FAINT, INK, THEME, Style, label_ends, picture
from experiments.reporting.runs import Curve, Span, gapped


class Line(NamedTuple):
    """A named curve; band: its least and greatest values where it stands for several."""

    label: str
    curve: Curve
    style: Style
    band: tuple[Sequence[float], Sequence[float]] | None = None
    dash: str = "-"


def accuracy_against_sparsity(
    rows: Sequence[Mapping[str, Any]],
    looks: Mapping[str, Style],
    lowest: float | None = None,
    width: float = 5.4,
) -> str:
    """Mean accuracy over the asked sparsity, one line per method; a row without sparsity is a band.

    rows: mappings with method, asked (in [0, 1)), accuracy and sd (percent; sd may be None), and where
    known accuracies, those of the single seeds. lowest: where the axis of accuracy begins. width: inches.
    """
    sparse = [row for row in rows if row["asked"] > 0]
    places = sorted({_place(row["asked"]) for row in sparse})
    gaps = [b - a for a, b in itertools.pairwise(places)]
    methods = list(dict.fromkeys(row["method"] for row in sparse))
    step = 0.4 * min(gaps, default=1.0) / max(1, len(methods))

    def draw(axes: Axes) -> None:
        for row in rows:
            if row["asked"] == 0:
                _draw_band(axes, row)
        ends = []
        for i, method in enumerate(methods):
            shift = step * (i - (len(methods) - 1) / 2)
            found = sorted((r for r in sparse if r["method"] == method), key=lambda r: r["asked"])
            x = [_place(row["asked"]) + shift for row in found]
            _draw_method(axes, x, found, looks[method])
            if lowest is None or found[-1]["accuracy"] >= lowest:
                ends.append((x[-1], found[-1]["accuracy"], method, looks[method]))
        wide = step * (len(methods) + 1) / 2
        for place in places:
            axes.axvspan(place - wide, place + wide, color=CELL, linewidth=0, zorder=0)
        axes.set_xticks(places, [f"{100 * (1 - 10**-x):.4g}%" for x in places])
        axes.set_xlim(places[0] - 1.5 * wide, places[-1] + wide)
        axes.set_xlabel("sparsity asked (log scale of the share kept)")
        axes.set_ylabel("accuracy (%)")
        axes.set_ylim(lowest, _top(rows, lowest))
        axes.grid(visible=False, axis="x")
        label_ends(axes, ends, height=3.7)

    listed = "; ".join(f"{r['method']} at {100 * r['asked']:g}%: {r['accuracy']:.2f}" for r in rows)
    return picture(draw, (width, 4.2), f"Accuracy in percent against sparsity. {listed}")


def sparsity_over_time(curve: Curve, phases: Sequence[Span], steps: int, style: Style) -> str:
    """The share of blocks that the masks in force remove, over the steps, on its phases."""

    def draw(axes: Axes) -> None:
        _shade(axes, phases)
        percent = [100 * value for value in curve.values]
        axes.plot(curve.steps, percent, drawstyle="steps-post", color=style.colour)
        axes.fill_between(
            curve.steps, percent, step="post", color=style.colour, alpha=0.18, linewidth=0
        )
        axes.set_ylim(0, 104)
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.set_ylabel("blocks pruned (%)")
        _over_steps(axes, steps)

    end = f"{100 * curve.values[-1]:.1f}%" if curve.values else "unknown"
    return picture(draw, (4.0, 2.1), f"Sparsity over the steps; at the end {end}")


def curves(
    lines: Sequence[Line],
    steps: int,
    unit: str,
    *,
    phases: Sequence[Span] = (),
    log: bool = False,
    limits: tuple[float | None, float | None] = (None, None),
    detailed: bool = False,
) -> str:
    """Curves over the steps.

    detailed: each value is marked, each curve is named at its end, and a line breaks where a dense phase
    lies between two values. limits: of the unit's axis.
    """

    def draw(axes: Axes) -> None:
        _shade(axes, phases)
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        for i, line in enumerate(lines):
            axes.plot(
                *(gapped(line.curve, phases) if detailed else line.curve),
                color=line.style.colour,
                linestyle=line.dash,
                linewidth=0.9 if detailed else 1.6,
                marker=line.style.marker if detailed else "",
                markersize=3,
                clip_on=False,
                markerfacecolor="none" if detailed and i % 2 else line.style.colour,
            )
            if line.band:
                axes.fill_between(
                    line.curve.steps, *line.band, color=line.style.colour, alpha=0.2, linewidth=0
                )
        axes.set_ylim(*limits)
        if limits == (0, None):  # counts: where all are 0, the axis still reaches 1
            axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_ylabel(unit)
        _over_steps(axes, steps)
        if not log:
            axes.ticklabel_format(axis="y", style="plain", useOffset=False)
        if detailed:
            ends = [(n.curve.steps[-1], n.curve.values[-1], n.label, n.style) for n in lines]
            label_ends(axes, ends, height=1.9)

    listed = "; ".join(f"{n.label} ends at {n.curve.values[-1]:.4g}" for n in lines)
    size = (4.0, 2.5) if detailed else (5.2, 3.2)
    return picture(draw, size, f"{unit} over the optimiser steps. {listed}")


def block_mask(mask: np.ndarray, style: Style) -> str:
    """A 0/1 mask (rows, cols) as a grid of blocks: a filled cell is a block that is alive."""
    rows, cols = mask.shape
    corners = np.array([(0.07, 0.07), (0.93, 0.07), (0.93, 0.93), (0.07, 0.93)])
    cells = [corners + (col, row) for row, col in np.argwhere(mask)]

    def draw(axes: Axes) -> None:
        axes.set_facecolor(CELL)
        axes.add_collection(PolyCollection(cells, facecolors=style.colour, linewidths=0))
        axes.set(xlim=(0, cols), ylim=(rows, 0), aspect="equal")
        axes.set_xlabel("outputs, in blocks")
        axes.set_ylabel("inputs, in blocks" if 2 * rows > cols else "inputs")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(4, integer=True))

    width = 3.4
    height = min(4.6, max(1.3, 0.83 * width * rows / cols + 0.45))
    alive = int(np.count_nonzero(mask))
    return picture(draw, (width, height), f"{alive} of {mask.size} blocks are alive")


def _top(rows: Sequence[Mapping[str, Any]], lowest: float | None) -> float:
    """A little above the highest bar; the automatic limit leaves room for accuracies beyond 100%."""
    highest = max(row["accuracy"] + (row["sd"] or 0.0) for row in rows)
    least = min(row["accuracy"] for row in rows) if lowest is None else lowest
    return highest + 0.06 * max(highest - least, 0.5)


def _draw_band(axes: Axes, row: Mapping[str, Any]) -> None:
    mean, sd = row["accuracy"], row["sd"] or 0.0
    axes.axhspan(mean - sd, mean + sd, color=FAINT, alpha=0.18, linewidth=0)
    axes.axhline(mean, color=INK, linewidth=1, linestyle="--")
    axes.annotate(
        row["method"],
        (0, mean),
        (3, 3),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
    )


def _draw_method(
    axes: Axes, x: Sequence[float], rows: Sequence[Mapping[str, Any]], style: Style
) -> None:
    axes.errorbar(
        x,
        [row["accuracy"] for row in rows],
        [row["sd"] or 0.0 for row in rows],
        color=style.colour,
        marker=style.marker,
        elinewidth=1.2,
        capsize=2.5,
        linewidth=1.2,
    )
    for place, row in zip(x, rows, strict=True):
        seeds = row.get("accuracies") or ()
        axes.plot([place] * len(seeds), seeds, ".", color=style.colour, alpha=0.45, markersize=4)


def _place(asked: float) -> float:
    """Where a sparsity stands: every tenfold smaller density is one further to the right."""
    return -math.log10(1 - asked)


def _shade(axes: Axes, phases: Sequence[Span]) -> None:
    for span in phases:
        if span.kind in THEME:
            axes.axvspan(span.start, span.stop, color=THEME[span.kind][0], linewidth=0, zorder=0)


def _over_steps(axes: Axes, steps: int) -> None:
    axes.set_xlim(0, steps)
    axes.set_xlabel("optimiser step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.grid(visible=False, axis="x")
