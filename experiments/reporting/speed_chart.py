"""The ratios of a speed table as one picture: a point and its quartiles, with the bound as a stroke."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from experiments.reporting.canvas import FAINT, INK, picture, standalone, styles

UNIT = "x dense step"
ROW = 0.21  # inches


def chart(networks: Mapping[str, Mapping[str, Any]]) -> str:
    """An SVG document of the rows that are ratios to the dense step's time, network by network."""
    rows = [row for part in networks.values() for row in part["rows"] if row["unit"] == UNIT]
    size = (8.0, 0.9 + ROW * (len(rows) + len(networks)))
    listed = "; ".join(f"{r['network']}, {r['what']}: {r['measured']['median']:.3f}" for r in rows)
    return standalone(picture(lambda axes: _draw(axes, rows), size, f"Dense steps. {listed}"))


def _draw(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    looks = styles(list(dict.fromkeys(row["network"] for row in rows)))
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
    axes.set_xlim(left=0)
    axes.set_xlabel("dense steps (point: median, line: quartiles, stroke: bound)")


def _row(axes: Axes, place: float, row: Mapping[str, Any], colour: str) -> None:
    found = row["measured"]
    axes.plot([found["low"], found["high"]], [place, place], color=colour, linewidth=3)
    axes.plot(found["median"], place, "o", color=colour)
    if row["bound"] is not None:
        axes.plot([row["bound"]] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=1.4)
