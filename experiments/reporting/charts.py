"""A table's results as pictures that stand alone: trade-off curves, one claim's differences, and its gain."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from experiments.reporting.canvas import INK, picture, standalone, styles
from experiments.reporting.claims import claims
from experiments.reporting.metrics import Metric, metrics
from experiments.reporting.places import block_of, place_of
from experiments.reporting.published import Figure, figures
from experiments.reporting.results import Results, grid
from experiments.reporting.tradeoff import Scale, tradeoff

WIDTH = 8.5  # inches: the names of a table's arms are long
FAR = 15  # points of an accuracy behind the best at which a method is cut off


def drawn(found: Results) -> dict[str, str]:
    """Pictures (SVG documents) by name.

    One per block that has two sparsities or more; "difference", that of the claim `figure`; and "gain",
    that of the claim `gain` (or `figure`) over the block's size, where there are two sizes or more.
    """
    made = {block: chart for block in blocks(found) if (chart := _curves(found, block))}
    if lines := _judged(found, found.get("figure", "")):
        made["difference"] = standalone(_difference(found, lines))
    lines = _judged(found, found.get("gain") or found.get("figure", ""))
    if len({block_of(line["cell"]) for line in lines}) > 1:
        made["gain"] = standalone(_gain(found, lines))
    return made


def blocks(found: Results) -> list[str]:
    """The cells' blocks in words, "8x8", in order."""
    return list(dict.fromkeys(map(block_of, found["cells"])))


def _curves(found: Results, block: str) -> str:
    metric, rows = metrics(found)[0], list(_rows(found, block))
    if len({row["asked"] for row in rows}) < 3:  # dense, and two sparsities
        return ""
    scale = Scale(_label(metric), metric.sign, _worst(rows, metric), metric.digits)
    looks = styles([row["method"] for row in rows])
    return standalone(tradeoff(rows, looks, scale, WIDTH))


def _label(metric: Metric) -> str:
    return "accuracy (%)" if metric == Metric() else metric.name


def _worst(rows: Sequence[Mapping[str, Any]], metric: Metric) -> float:
    """Where the axis ends: methods that fall far behind would press the others together."""
    goods = [metric.sign * row["accuracy"] for row in rows]
    # Fifteen points of an accuracy in percent; as many hundredths of a loss of four digits.
    far = FAR * 10.0 ** (2 - metric.digits)
    return metric.sign * (min(g for g in goods if g > max(goods) - far) - far / FAR)


def _rows(found: Results, block: str) -> Iterator[dict[str, Any]]:
    """What `tradeoff` draws, for the cells of a block and the dense arm."""
    papers = figures(found)
    places = {place_of(cell) for cell in found["cells"] if block_of(cell) == block}
    for arm, own in grid(found).items():
        for place, cell in own.items():
            if cell.values and (place in places or not place):
                paper = papers.get(arm, {}).get(place, Figure()).value
                yield {
                    "method": arm,
                    "asked": cell.asked,
                    "accuracy": cell.mean,
                    "sd": None if math.isnan(cell.sd) else cell.sd,
                    "accuracies": list(cell.values.values()),
                    "paper": None if math.isnan(paper) else paper,
                }


def _judged(found: Results, claim: str) -> list[dict[str, Any]]:
    """The claim's differences, of the places that have one."""
    return [x for x in claims(found) if x["claim"] == claim and not math.isnan(x["points"])]


def _difference(found: Results, lines: Sequence[Mapping[str, Any]]) -> str:
    """Per place, with its standard error (Figure 2a of arXiv 2402.17902)."""
    looks = styles(blocks(found))

    def draw(axes: Axes) -> None:
        places: Sequence[int] = range(len(lines))
        points, errors = ([line[key] for line in lines] for key in ("points", "error"))
        colours = [looks[block_of(line["cell"])].colour for line in lines]
        axes.bar(places, points, color=colours, width=0.6)
        axes.errorbar(places, points, errors, fmt="none", color=INK, capsize=3)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_xticks(places, [line["place"].replace(", ", "\n") for line in lines])
        axes.set_ylabel(_unit(found))
        axes.set_title(lines[0]["claim"], loc="left", fontsize=10)
        axes.grid(visible=False, axis="x")

    return picture(draw, (5.4, 3.0), _described(found, lines))


def _gain(found: Results, lines: Sequence[Mapping[str, Any]]) -> str:
    """Over the block's size, a line per sparsity, with standard errors."""
    sizes = blocks(found)
    kinds = list(dict.fromkeys(_rest(line) for line in lines))
    looks = styles(kinds)

    def draw(axes: Axes) -> None:
        for i, kind in enumerate(kinds):
            own = [line for line in lines if _rest(line) == kind]
            shift = 0.06 * (i - (len(kinds) - 1) / 2)
            x = [sizes.index(block_of(line["cell"])) + shift for line in own]
            points, errors = ([line[key] for line in own] for key in ("points", "error"))
            style = {"color": looks[kind].colour, "marker": looks[kind].marker, "capsize": 2.5}
            axes.errorbar(x, points, errors, label=kind, **style)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_xticks(range(len(sizes)), sizes)
        axes.set_xlabel("block")
        axes.set_ylabel(_unit(found))
        axes.set_title(lines[0]["claim"], loc="left", fontsize=10)
        axes.legend(frameon=False)
        axes.grid(visible=False, axis="x")

    return picture(draw, (5.4, 3.4), f"Gain against the block. {_described(found, lines)}")


def _rest(line: Mapping[str, Any]) -> str:
    """A line's place without its block: its sparsity."""
    return place_of({k: v for k, v in line["cell"].items() if k != "blocks.block"})


def _unit(found: Results) -> str:
    metric = metrics(found)[0]
    return "difference (points of accuracy)" if metric == Metric() else f"gain in {metric.unit}"


def _described(found: Results, lines: Sequence[Mapping[str, Any]]) -> str:
    metric = metrics(found)[0]
    listed = "; ".join(f"{line['place']}: {metric.signed(line['points'])}" for line in lines)
    return f"Difference in {metric.unit}, {lines[0]['claim']}. {listed}"
