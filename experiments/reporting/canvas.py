"""What every picture is drawn with: the theme's colours, labels that don't overlap, one SVG element.

Colours are written as custom properties with the light theme's value behind them, so that a page may
darken them; the hues are Okabe and Ito's, shifted to keep their distance on white and on black under the
common colour vision deficiencies. Text stays text, and takes the page's font.
"""

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# name -> (on white, on black). Every value differs from the others: it is also what is replaced.
THEME: Mapping[str, tuple[str, str]] = {
    "ink": ("#1b1f24", "#e8eaed"),
    "faint": ("#6a7079", "#9aa1ab"),
    "rule": ("#d9dce1", "#353a42"),
    "cell": ("#f1f2f4", "#22262d"),
    "sparsify": ("#fdf0d8", "#4a3a18"),
    "sparse": ("#e3e7ec", "#2a323d"),
    "finetune": ("#cfd6df", "#414d5c"),
    "c0": ("#b565a0", "#e093c4"),
    "c1": ("#d08a00", "#f0b030"),
    "c2": ("#c9400a", "#f0703a"),
    "c3": ("#3f9fdc", "#6cc4f5"),
    "c4": ("#00865f", "#25b98b"),
    "c5": ("#1c4fa0", "#5b8ff0"),
}
_HUES, _MARKERS = 6, "osD^vPX"
INK, FAINT, RULE, CELL = (THEME[name][0] for name in ("ink", "faint", "rule", "cell"))
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sparsity",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}


class Style(NamedTuple):
    """A method's looks, the same in every picture: a name of THEME, and a marker."""

    name: str
    marker: str

    @property
    def colour(self) -> str:
        """The colour on white, which a page's theme replaces."""
        return THEME[self.name][0]


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """A colour and a marker for each label; a label that begins with "dense" is drawn in ink."""
    made, hues = {}, 0
    for label in dict.fromkeys(labels):
        dense = label.split(",")[0].strip() == "dense"
        made[label] = Style("ink" if dense else f"c{hues % _HUES}", _MARKERS[hues % len(_MARKERS)])
        hues += not dense
    return made


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, Style]], height: float) -> None:
    """Names at the right edge, pushed apart where they would overlap. height: of the axes, inches."""
    apart = 13 / 72 / height
    to_share = lambda y: axes.transAxes.inverted().transform(axes.transData.transform((0, y)))[1]
    ordered = sorted(ends, key=lambda end: end[1])
    wanted = spread_apart([to_share(y) for _, y, _, _ in ordered], apart)
    # Not below the axis, where the numbers of the steps stand.
    places = [max(place, 0.06 + i * apart) for i, place in enumerate(wanted)]
    for place, (x, y, label, style) in zip(places, ordered, strict=True):
        axes.annotate(
            label,
            (x, y),
            (1.04, place),
            textcoords="axes fraction",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": style.colour,
                "linewidth": 0.8,
                "shrinkA": 2,
                "relpos": (0, 0.5),
            },
        )


def spread_apart(wanted: Sequence[float], apart: float) -> list[float]:
    """Rising places, as near to the wanted (rising) ones as can be, at least `apart` from each other."""
    # Least squares under order: what is too near is pooled into runs around the mean of their wishes.
    runs: list[tuple[float, int]] = []
    for i, want in enumerate(wanted):
        mean, size = want - i * apart, 1
        while runs and runs[-1][0] > mean:
            before, n = runs.pop()
            mean, size = (before * n + mean * size) / (n + size), n + size
        runs.append((mean, size))
    return [mean + i * apart for i, mean in enumerate(m for m, size in runs for _ in range(size))]


def picture(draw: Callable[[Axes], None], size: tuple[float, float], described: str) -> str:
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return _inlined(file.getvalue(), described)


def standalone(svg: str) -> str:
    """A picture as a document of its own, on white."""
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return svg.replace("<svg ", f'<svg {names} style="background: #ffffff" ', 1) + "\n"


def _inlined(svg: str, described: str) -> str:
    """The SVG element alone: no header or metadata, short coordinates, colours that a theme replaces."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    # Within tags alone: what stands between them is text, and a label keeps its digits.
    svg = re.sub(r"<[^>]+>", lambda tag: _LONG.sub(_short, tag[0]), svg)
    for name, (colour, _) in THEME.items():
        svg = svg.replace(colour, f"var(--{name}, {colour})")
    size = re.search(r'viewBox="[^"]*"', svg)
    assert size is not None
    alt = html.escape(described, quote=True)
    return f'<svg {size[0]} role="img" aria-label="{alt}"' + svg[svg.index(">") :]


_LONG = re.compile(r"\d+\.\d{3,}")


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}"
