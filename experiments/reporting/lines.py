"""A table's results as rows of texts, with a head: the grid, every cell in full, and what did not end."""

import math

from experiments.reporting.metrics import Metric, metrics
from experiments.reporting.places import place_of
from experiments.reporting.published import Figure, Figures, figures
from experiments.reporting.results import Cell, Results, grid, shown

Rows = list[list[str]]
PAPER = ("paper", "difference")
HEAD = (
    "method",
    "cell",
    "ours",
    *PAPER,
    "seeds",
    "asked",
    "actual",
    "of all weights",
    "device hours",
    "ms dense",
    "ms block-sparse",
)


def compact(found: Results, metric: Metric | None = None) -> Rows:
    """One row per arm, one column per cell; the paper's figure stands behind ours. Dense arms in one cell."""
    first = metrics(found)[0]
    metric = metric or first
    papers = figures(found) if metric == first else {}
    places = [place_of(cell) for cell in found["cells"]]
    rows = [["method", *places]]
    for arm, own in grid(found, metric).items():
        texts = {
            p: _beside(shown(c, metric), _paper(papers, arm, p), metric) for p, c in own.items()
        }
        if "" in own:
            rows.append([f"{arm}: {texts['']}", *[""] * len(places)])
        else:
            rows.append([arm, *(texts.get(place, "") for place in places)])
    return rows


def _paper(papers: Figures, arm: str, place: str) -> Figure | None:
    """None in a table that stands beside no paper."""
    return papers.get(arm, {}).get(place, Figure()) if papers else None


def _beside(ours: str, paper: Figure | None, metric: Metric) -> str:
    return ours if paper is None else f"{ours} [{_printed(paper, metric)}]".strip()


def _printed(paper: Figure, metric: Metric) -> str:
    return paper.said if math.isnan(paper.value) else metric.text(paper.value)


def full(found: Results) -> Rows:
    """One row per arm and cell; without the paper's columns where the table stands beside no paper."""
    metric, papers = metrics(found)[0], figures(found)
    rows = [
        list(HEAD),
        *(
            [arm, place, *_numbers(cell, papers.get(arm, {}).get(place, Figure()), metric)]
            for arm, own in grid(found).items()
            for place, cell in own.items()
        ),
    ]
    left_out = () if papers else [HEAD.index(name) for name in PAPER]
    return [[cell for i, cell in enumerate(row) if i not in left_out] for row in rows]


def _numbers(cell: Cell, paper: Figure, metric: Metric) -> list[str]:
    gap = cell.mean - paper.value
    return [
        shown(cell, metric),
        _printed(paper, metric),
        "" if math.isnan(gap) else metric.signed(gap),
        str(len(cell.values)),
        _percent(cell.asked, ".4g"),
        _percent(cell.achieved, ".2f"),
        _percent(cell.network, ".2f"),
        f"{cell.hours:.3g}" if cell.hours else "",
        *(_milliseconds(cell, kind) for kind in ("dense", "block_sparse")),
    ]


def _percent(share: float, form: str) -> str:
    return "" if math.isnan(share) else f"{100 * share:{form}}%"


def _milliseconds(cell: Cell, kind: str) -> str:
    """Of the final model; what nothing has measured says so."""
    if not cell.values:
        return ""
    return f"{cell.latency[kind]:.3g}" if kind in cell.latency else "unmeasured"


def unfinished(found: Results) -> Rows:
    """A row per run that has no numbers and says why."""
    rows = [
        [run["arm"], place_of(run["cell"]), str(run["seed"]), " ".join(run["cause"].split())]
        for run in found["runs"]
        if run["cause"]
    ]
    return [["method", "cell", "seed", "cause"], *rows]


def open_cells(found: Results) -> int:
    """Runs that have neither ended nor failed."""
    return sum(not run["summary"] and not run["cause"] for run in found["runs"])
