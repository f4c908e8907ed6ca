"""The trade-off curve: a metric over the asked sparsity, one line per method."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from experiments.reporting.canvas import CELL, FAINT, INK, Style, label_ends, picture

Row = Mapping[str, Any]


class Scale(NamedTuple):
    """The metric's axis.

    label: of the axis. sign: 1 where higher is better, else -1. worst: the value at the axis's bad end,
    None for what the values ask for. digits: behind the point.
    """

    label: str = "accuracy (%)"
    sign: int = 1
    worst: float | None = None
    digits: int = 2


ACCURACY = Scale()


def tradeoff(
    rows: Sequence[Row], looks: Mapping[str, Style], scale: Scale = ACCURACY, width: float = 5.4
) -> str:
    """Means over the asked sparsity, one line per method; a row without sparsity is a band.

    rows: mappings with method, asked (in [0, 1)), accuracy (the metric's mean) and sd (may be None), and
    where known accuracies, those of the single seeds, and paper, what is published for the same. width:
    inches.
    """
    sparse = [row for row in rows if row["asked"] > 0]
    places = sorted({_place(row["asked"]) for row in sparse})
    methods = list(dict.fromkeys(row["method"] for row in sparse))
    gaps = [b - a for a, b in itertools.pairwise(places)]
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
            if _inside(found[-1]["accuracy"], scale):
                ends.append((x[-1], found[-1]["accuracy"], method, looks[method]))
        _frame(axes, places, step * (len(methods) + 1) / 2, rows, scale)
        label_ends(axes, ends, height=3.7)

    listed = "; ".join(
        f"{r['method']} at {100 * r['asked']:g}%: {r['accuracy']:.{scale.digits}f}" for r in rows
    )
    name = "Accuracy in percent" if scale._replace(worst=None) == ACCURACY else scale.label
    return picture(draw, (width, 4.2), f"{name} against sparsity. {listed}")


def _inside(value: float, scale: Scale) -> bool:
    return scale.worst is None or scale.sign * (value - scale.worst) >= 0


def _frame(
    axes: Axes, places: Sequence[float], wide: float, rows: Sequence[Row], scale: Scale
) -> None:
    """Both axes, with a band behind each sparsity."""
    for place in places:
        axes.axvspan(place - wide, place + wide, color=CELL, linewidth=0, zorder=0)
    axes.set_xticks(places, [f"{100 * (1 - 10**-x):.4g}%" for x in places])
    axes.set_xlim(places[0] - 1.5 * wide, places[-1] + wide)
    axes.set_xlabel("sparsity asked (log scale of the share kept)")
    axes.set_ylabel(scale.label)
    ends = (scale.worst, _best(rows, scale))
    axes.set_ylim(*(ends if scale.sign > 0 else ends[::-1]))
    axes.grid(visible=False, axis="x")


def _best(rows: Sequence[Row], scale: Scale) -> float:
    """A little beyond the best bar; the automatic limit leaves room for accuracies beyond 100%."""
    best = max(scale.sign * row["accuracy"] + (row["sd"] or 0.0) for row in rows)
    least = min(scale.sign * row["accuracy"] for row in rows)
    worst = least if scale.worst is None else scale.sign * scale.worst
    return scale.sign * (best + 0.06 * max(best - worst, 0.5 * 10 ** (2 - scale.digits)))


def _draw_band(axes: Axes, row: Row) -> None:
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


def _draw_method(axes: Axes, x: Sequence[float], rows: Sequence[Row], style: Style) -> None:
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
    _draw_paper(axes, x, rows, style)


def _draw_paper(axes: Axes, x: Sequence[float], rows: Sequence[Row], style: Style) -> None:
    """What is published: hollow marks on a dotted line."""
    papers = [row.get("paper") for row in rows]
    found = [(place, paper) for place, paper in zip(x, papers, strict=True) if paper is not None]
    if found:
        places, values = zip(*found, strict=True)
        axes.plot(
            places,
            values,
            color=style.colour,
            marker=style.marker,
            markerfacecolor="none",
            linestyle=":",
            linewidth=1.0,
        )


def _place(asked: float) -> float:
    """Where a sparsity stands: every tenfold smaller density is one further to the right."""
    return -math.log10(1 - asked)
