"""Memory of one device over the number of devices, for a batch that is shared out and one that grows along."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from experiments.reporting.canvas import picture, standalone, styles

GIB = 2**30
Row = Mapping[str, Any]


def chart(rows: Sequence[Row]) -> str:
    """An SVG document of rows that have compiled."""
    lines = _lines(rows)
    said = "; ".join(f"{label}: {_words(own)}" for label, own in lines.items())
    return standalone(picture(lambda axes: _draw(axes, lines), (7.0, 3.6), f"GiB. {said}"))


def _lines(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of an arm that have the batch in common, or the batch of one device: two of them make a line."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["devices"]):
        for said in (f"{row['batch']:,} in all", f"{row['batch'] // row['devices']:,} a device"):
            found.setdefault(f"{row['mesh']}, batch {said}, {row['arm']}", []).append(row)
    return {label: own for label, own in sorted(found.items()) if len(own) > 1}


def _words(rows: Sequence[Row]) -> str:
    return ", ".join(f"{held(row):.2f} on each of {row['devices']}" for row in rows)


def held(row: Row) -> float:
    """GiB of one device."""
    return row["memory"]["together"] / GIB


def _draw(axes: Axes, lines: Mapping[str, Sequence[Row]]) -> None:
    looks = styles(list(lines))
    for label, own in lines.items():
        look, places = looks[label], [(row["devices"], held(row)) for row in own]
        axes.plot(*zip(*places, strict=True), color=look.colour, marker=look.marker, label=label)
    counts = sorted({row["devices"] for own in lines.values() for row in own})
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("devices")
    axes.set_ylabel("GiB of one device")
    if lines:
        axes.legend(frameon=False)
