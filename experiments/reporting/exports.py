"""A table's results for other programs: CSV by run and by cell, and LaTeX."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from experiments.reporting import lines
from experiments.reporting.metrics import metrics
from experiments.reporting.places import place_of
from experiments.reporting.published import Figure, figures
from experiments.reporting.results import Results, grid

RUN = ("method", "place", "seed", "asked", "achieved")
SPARSITIES = ("asked", "achieved", "of_all_weights")
CELL = ("method", "place", "seeds", "mean", "sd", "paper", *SPARSITIES, "device_hours")
KINDS = ("dense", "block_sparse")


def runs(found: Results) -> str:
    """One line per run, every metric as the run's summary has it."""
    fields = [metric.field for metric in metrics(found)]
    fields += ["loss"] * ("loss" not in fields)
    keys = ("asked_sparsity", "achieved_sparsity", *fields)
    body = [
        [
            *(run["arm"], place_of(run["cell"]), run["seed"]),
            *(run["summary"].get(key, "") for key in keys),
            *(run["run"], run["cause"]),
        ]
        for run in found["runs"]
    ]
    return _separated([[*RUN, *fields, "run", "cause"], *body])


def cells(found: Results) -> str:
    """One line per arm and cell, in the printed unit of the first metric; blank where there is nothing."""
    papers = figures(found)
    body = [
        [
            *(arm, place, len(cell.values), cell.mean, cell.sd),
            papers.get(arm, {}).get(place, Figure()).value,
            *(
                cell.asked,
                cell.achieved,
                cell.network,
                cell.hours,
                *(cell.latency.get(k, math.nan) for k in KINDS),
            ),
        ]
        for arm, own in grid(found).items()
        for place, cell in own.items()
    ]
    return _separated([[*CELL, *(f"ms_{kind}" for kind in KINDS)], *map(_blanked, body)])


def _blanked(row: Sequence[Any]) -> list[Any]:
    return ["" if isinstance(value, float) and math.isnan(value) else value for value in row]


def _separated(rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def latex(found: Results) -> str:
    """The compact table for a paper, with booktabs."""
    rows = [[_escaped(cell) for cell in row] for row in lines.compact(found)]
    head, *body = [f"{' & '.join(row)} \\\\" for row in rows]
    begin = f"\\begin{{tabular}}{{l{'c' * (len(rows[0]) - 1)}}}"
    return "\n".join(
        [begin, "\\toprule", head, "\\midrule", *body, "\\bottomrule", "\\end{tabular}", ""]
    )


def _escaped(words: str) -> str:
    for sign in "&%_#$":
        words = words.replace(sign, f"\\{sign}")
    return words.replace("±", "$\\pm$")
