"""A table's results as pictures that stand alone: accuracy against sparsity, and one claim's differences."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from experiments.reporting import results
from experiments.reporting.canvas import INK, picture, standalone, styles
from experiments.reporting.figures import accuracy_against_sparsity
from experiments.reporting.results import Results

WIDTH = 8.5  # inches: the names of a table's arms are long


def drawn(found: Results) -> dict[str, str]:
    """Pictures (SVG documents) by name: one per block that has two sparsities or more, and the differences."""
    made = {f"{block}": chart for block in blocks(found) if (chart := _accuracy(found, block))}
    if found.get("figure"):
        made["difference"] = standalone(_difference(found, found["figure"]))
    return made


def blocks(found: Results) -> list[str]:
    """The cells' blocks in words, "8x8", in order."""
    return list(dict.fromkeys(_block(cell) for cell in found["cells"]))


def _block(cell: Mapping[str, Any]) -> str:
    return "x".join(str(n) for n in cell.get("blocks.block", ()))


def _accuracy(found: Results, block: str) -> str:
    rows = list(_rows(found, block))
    if len({row["asked"] for row in rows}) < 3:  # dense, and two sparsities
        return ""
    # Methods that fall far behind would press the others together.
    best = max(row["accuracy"] for row in rows)
    lowest = min(r["accuracy"] for r in rows if r["accuracy"] > best - 15) - 1
    looks = styles([row["method"] for row in rows])
    return standalone(accuracy_against_sparsity(rows, looks, lowest, WIDTH))


def _rows(found: Results, block: str):
    """What `accuracy_against_sparsity` draws, for the cells of a block and the dense arm."""
    places = {results.place_of(cell) for cell in found["cells"] if _block(cell) == block}
    for arm, own in results.grid(found).items():
        for place, cell in own.items():
            if cell.accuracies and (place in places or not place):
                yield {
                    "method": arm,
                    "asked": cell.asked,
                    "accuracy": cell.mean,
                    "sd": None if math.isnan(cell.sd) else cell.sd,
                    "accuracies": list(cell.accuracies.values()),
                }


def _difference(found: Results, claim: str) -> str:
    """A claim's difference in points per place, with its standard error (Figure 2a of arXiv 2402.17902)."""
    lines = [
        x for x in results.claims(found) if x["claim"] == claim and not math.isnan(x["points"])
    ]

    def draw(axes: Axes) -> None:
        colours = [styles(blocks(found))[line["place"].split(",")[0]].colour for line in lines]
        places: Sequence[int] = range(len(lines))
        axes.bar(places, [line["points"] for line in lines], color=colours, width=0.6)
        axes.errorbar(
            places,
            [line["points"] for line in lines],
            [line["error"] for line in lines],
            fmt="none",
            color=INK,
            capsize=3,
        )
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_xticks(places, [line["place"].replace(", ", "\n") for line in lines])
        axes.set_ylabel("difference (points of accuracy)")
        axes.grid(visible=False, axis="x")

    listed = "; ".join(f"{line['place']}: {line['points']:+.2f}" for line in lines)
    return picture(draw, (5.4, 3.0), f"Difference in points, {claim}. {listed}")
