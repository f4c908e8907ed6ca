"""Pictures of runs: each takes plain values and returns one SVG element, ready to stand in a page."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from experiments.reporting.canvas import CELL, THEME, Style, label_ends, picture
from experiments.reporting.runs import Curve, Span, gapped


class Line(NamedTuple):
    """A named curve; band: its least and greatest values where it stands for several."""

    label: str
    curve: Curve
    style: Style
    band: tuple[Sequence[float], Sequence[float]] | None = None
    dash: str = "-"


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
