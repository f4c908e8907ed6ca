"""The ratios of a speed table as one picture: a point and its quartiles, with the bound as a stroke."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from experiments.reporting.canvas import FAINT, INK, picture, standalone, styles

UNITS = ("x dense step", "x dense run")
ROW = 0.21  # inches


def chart(networks: Mapping[str, Mapping[str, Any]]) -> str:
    """An SVG document of the rows that are ratios to what the dense network takes, network by network."""
    rows = [row for part in networks.values() for row in part["rows"] if row["unit"] in UNITS]
    size = (8.0, 0.9 + ROW * (len(rows) + len(networks)))
    listed = "; ".join(f"{r['network']}, {r['what']}: {r['measured']['median']:.3f}" for r in rows)
    return standalone(
        picture(lambda axes: _draw(axes, rows), size, f"Times the dense network's. {listed}")
    )


def _draw(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    looks = styles(list(dict.fromkeys(row["network"] for row in rows)))
    bounds = [row["bound"] for row in rows if row["bound"] is not None]
    places, place, before = [], 0.0, ""
    for row in rows:
        place += 1 + (row["network"] != before) * bool(before)
        before = row["network"]
        places.append(place)
        _row(axes, place, row, looks[before].colour)
    axes.axvline(1, color=FAINT, linewidth=0.8)
    axes.set_yticks(places, [f"{row['network']}: {row['what']}" for row in rows])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 0.05 + max([1.0, *(row["measured"]["high"] for row in rows), *bounds]))
    axes.set_xlabel(
        "times the dense network's (point: median, line: quartiles, stroke: bound)", loc="right"
    )


def _row(axes: Axes, place: float, row: Mapping[str, Any], colour: str) -> None:
    found = row["measured"]
    axes.plot([found["low"], found["high"]], [place, place], color=colour, linewidth=3)
    axes.plot(found["median"], place, "o", color=colour)
    if row["bound"] is not None:
        axes.plot([row["bound"]] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=1.4)
