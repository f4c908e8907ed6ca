"""Pictures of a kernel benchmark: where a block breaks even, and how near the kernels come to the roof."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.reporting.canvas import FAINT, INK, label_ends, picture, standalone, styles
from sparsity.kernels.model import flops, moved, sparse_flops
from sparsity.kernels.tuned import Entry, geometry_from

Part = Mapping[str, Any]


def drawn(results: Mapping[str, Any]) -> dict[str, str]:
    """SVG documents by name: per dtype a break-even chart of each kind of layer, and a roofline."""
    made = {}
    dtypes = dict.fromkeys(part["dtype"] for part in results["parts"])
    for dtype in dtypes:
        parts = [part for part in results["parts"] if part["dtype"] == dtype]
        first = [part for part in parts if part["layer"] == parts[0]["layer"]]
        made[f"break-even-{dtype}"] = break_even(first)
        if criteo := [part for part in parts if "Criteo" in part["layer"]]:
            made[f"break-even-criteo-{dtype}"] = break_even(criteo)
        made[f"roofline-{dtype}"] = roofline(parts, results["bandwidth"])
    return made


def break_even(parts: Sequence[Part]) -> str:
    """Ratio of the training step against density, one line per block, for one layer."""
    parts = sorted(parts, key=lambda part: part["block"])
    looks = styles([f"block {part['block']}" for part in parts])
    name = f"{parts[0]['layer']}, {parts[0]['dtype']}"

    def draw(axes: Axes) -> None:
        ends = []
        for part, (label, look) in zip(parts, looks.items(), strict=True):
            points = sorted((float(p), r) for p, r in part["ratios"]["step"].items())
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=look.colour, marker=look.marker)
            ends.append((x[-1], y[-1], label, look))
        axes.axhline(1, color=INK, linewidth=0.8)
        _logarithmic(axes, "density of blocks (%)", "times faster than dense, training step")
        axes.set_title(name)
        label_ends(axes, ends, height=3.4)

    listed = "; ".join(
        f"block {p['block']} at {d}%: {r:.2f}"
        for p in parts
        for d, r in p["ratios"]["step"].items()
    )
    return standalone(picture(draw, (6.4, 4.0), f"Speed of the training step of {name}. {listed}"))


def roofline(parts: Sequence[Part], bandwidth: float) -> str:
    """Achieved FLOP/s on live blocks against FLOPs per byte, forward; bytes per second of a plain copy."""
    peak = max(rate for part in parts for _, rate in [_dense(part)])
    looks = styles([f"block {block}" for block in sorted({part["block"] for part in parts})])

    def draw(axes: Axes) -> None:
        for part in parts:
            look = looks[f"block {part['block']}"]
            points = list(_achieved(part))
            axes.scatter(*zip(*points, strict=True), color=look.colour, marker=look.marker, s=22)
        lowest = min(x for part in parts for x, _ in _achieved(part)) / 2
        highest = 2 * max(_dense(part)[0] for part in parts)
        knee = peak / bandwidth * 1e9
        axes.plot([lowest, knee, highest], [lowest * bandwidth / 1e9, peak, peak], color=FAINT)
        axes.annotate(
            f"dense, at best {peak:.0f} GFLOP/s", (highest, peak), ha="right", va="bottom"
        )
        for label, look in looks.items():
            axes.scatter([], [], color=look.colour, marker=look.marker, label=label)
        axes.legend(frameon=False, loc="lower right")
        _logarithmic(
            axes, "FLOPs of live blocks per byte that has to move", "GFLOP/s on live blocks"
        )

    said = f"Forward products: GFLOP/s on live blocks against intensity; dense at best {peak:.0f} GFLOP/s"
    return standalone(picture(draw, (6.4, 4.0), said))


def _achieved(part: Part) -> Iterator[tuple[float, float]]:
    """(FLOPs per byte, GFLOP/s) at each density."""
    for percent, ratio in part["ratios"]["forward"].items():
        call = _entry(part).at(float(percent) / 100)
        seconds = part["dense ms"]["forward"] / 1000 / ratio
        live = sparse_flops(call)
        yield live / moved(call, call.density), live / seconds / 1e9


def _dense(part: Part) -> tuple[float, float]:
    """(FLOPs per byte, GFLOP/s) of the dense product."""
    call = _entry(part).at(1.0)
    return flops(call) / moved(call, 1.0), flops(call) / part["dense ms"]["forward"] / 1e6


def _entry(part: Part) -> Entry:
    geometry = part["geometry"] and geometry_from(*part["geometry"])
    shape, block = tuple(part["shape"]), (part["block"],) * 2
    return Entry("forward", part["count"], shape, block, part["dtype"], geometry, {})


def _logarithmic(axes: Axes, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel(x)
    axes.set_ylabel(y)
