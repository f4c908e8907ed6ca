"""Memory of one device over the number of devices, with the rows that it computes beside each point."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from experiments.reporting.canvas import picture, standalone, styles

GIB = 2**30
Row = Mapping[str, Any]


class Line(NamedTuple):
    """Rows of a mesh and an arm. same: whether a device does the same work in all of them."""

    mesh: str
    arm: str
    same: bool
    rows: Sequence[Row]

    @property
    def look(self) -> str:
        """What is drawn alike."""
        return f"{self.mesh}, {self.arm}"

    @property
    def label(self) -> str:
        first = self.rows[0]
        said = f"{rows_of_one(first):,} rows a device" if self.same else f"batch {first['batch']:,}"
        return f"{self.look}, {said}"


def chart(rows: Sequence[Row]) -> str:
    """An SVG document of rows that have compiled; where there are dense ones, of those."""
    found = lines([row for row in rows if row["arm"] == "dense"] or rows)
    said = "; ".join(f"{line.label}: {_words(line.rows)}" for line in found)
    return standalone(picture(lambda axes: _draw(axes, found), (7.2, 4.4), f"GiB. {said}"))


def lines(rows: Sequence[Row]) -> list[Line]:
    """Those that share a batch out, and those of which each device does the same; two rows make one."""
    found: dict[tuple[str, str, bool, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["devices"]):
        for same, work in ((False, row["batch"]), (True, rows_of_one(row))):
            found.setdefault((row["mesh"], row["arm"], same, work), []).append(row)
    return [
        Line(mesh, arm, same, own)
        for (mesh, arm, same, _), own in sorted(found.items())
        if len(own) > 1
    ]


def rows_of_one(row: Row) -> int:
    """Rows of a batch on one device; those that share weights by the axis model have the same rows."""
    return row["batch"] * row.get("model", 1) // row["devices"]


def _words(rows: Sequence[Row]) -> str:
    return ", ".join(
        f"{held(row):.2f} on each of {row['devices']}, {rows_of_one(row):,} rows" for row in rows
    )


def held(row: Row) -> float:
    """GiB of one device."""
    return row["memory"]["together"] / GIB


def _draw(axes: Axes, found: Sequence[Line]) -> None:
    """Only points of the same work are joined by a whole line; beside the others stand their rows."""
    looks = styles([line.look for line in found])
    for line in found:
        look, places = looks[line.look], [(row["devices"], held(row)) for row in line.rows]
        drawn = {"color": look.colour, "marker": look.marker, "label": line.label}
        axes.plot(*zip(*places, strict=True), linestyle="-" if line.same else ":", **drawn)
        if not line.same:
            _number(axes, line, look.colour)
    counts = sorted({row["devices"] for line in found for row in line.rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("devices (dotted: one batch, beside each point the rows of a device)")
    axes.set_ylabel("GiB of one device")
    if found:
        axes.legend(frameon=False)


def _number(axes: Axes, line: Line, colour: str) -> None:
    """Writes the rows of a device beside each point; weights that lie whole have theirs on the left."""
    left = line.mesh == "data"
    for row in line.rows:
        axes.annotate(
            f"{rows_of_one(row):,}",
            (row["devices"], held(row)),
            (-6, -9) if left else (5, 4),
            textcoords="offset points",
            horizontalalignment="right" if left else "left",
            color=colour,
            fontsize=8,
        )
