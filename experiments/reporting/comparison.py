"""The table of a comparison as HTML: every method and sparsity, what is best and what is as good."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting.canvas import Style
from experiments.reporting.document import chip
from experiments.reporting.runs import Trace, evaluated_on

Row = Mapping[str, Any]

_HEAD = (
    "method",
    "accuracy<br>%",
    "achieved<br>sparsity",
    "live<br>parameters",
    "live<br>MACs",
    "seeds",
)


def completed(rows: Sequence[Row], traces: Sequence[Trace]) -> list[dict[str, Any]]:
    """The rows, with what the runs know beside: single accuracies, runs asked, the dense sizes."""
    full = []
    for row in rows:
        own = [t for t in traces if t.label == row["method"] and abs(t.asked - row["asked"]) < 1e-9]
        done = [trace.summary for trace in own if trace.summary]
        known = {
            "asked": own[0].asked if own else row["asked"],
            "asked_seeds": len(own),
            "accuracies": [100 * summary["accuracy"] for summary in done],
            "dense_parameters": done[0]["parameters"] if done else row["parameters"],
            "dense_macs": done[0]["macs"] if done else row["macs"],
        }
        full.append({**row, **known})
    return full


def marks(rows: Sequence[Row]) -> list[str]:
    """Per row "best", "near" or "": the best mean of its sparsity, and what lies within one sd of it.

    The sd is the larger of the two rows'; without one (a single seed) only ties are near. A sparsity
    with one row has no best.
    """
    marked = []
    for row in rows:
        rivals = [r for r in rows if r["asked"] == row["asked"]]
        best = max(rivals, key=lambda r: r["accuracy"])
        reach = max(best["sd"] or 0.0, row["sd"] or 0.0)
        near = len(rivals) > 1 and best["accuracy"] - row["accuracy"] <= reach
        marked.append("best" if near and row is best else "near" if near else "")
    return marked


def table(rows: Sequence[Row], traces: Sequence[Trace], looks: Mapping[str, Style]) -> str:
    marked = zip(rows, marks(rows), strict=True)
    found = {(row["method"], row["asked"]): (row, mark) for row, mark in marked}
    bodies = []
    for asked in sorted({trace.asked for trace in traces}):
        name = f"{100 * asked:.4g}% of the blocks pruned" if asked else "the dense network"
        labels = dict.fromkeys(trace.label for trace in traces if trace.asked == asked)
        lines = "".join(_line(label, found.get((label, asked)), looks[label]) for label in labels)
        group = f'<tr class="group"><th colspan="{len(_HEAD)}">asked: {name}</th></tr>'
        bodies.append(f"<tbody>{group}{lines}</tbody>")
    head = "".join(f"<th>{name}</th>" for name in _HEAD)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{"".join(bodies)}</table></div>\n'
        f'<p class="note">Accuracy on {evaluated_on(traces)}: mean ± standard deviation over the seeds. '
        "★ <b>bold</b> is the best mean of its sparsity; ☆ lies within one standard deviation of it "
        "(the larger of the two methods'), so the order among the marked says little. The achieved "
        "sparsity is that of the layers that are cut into blocks; live parameters and MACs are those "
        "of the whole network, with their share of the dense one's.</p>"
    )


def _line(label: str, found: tuple[Row, str] | None, look: Style) -> str:
    if found is None:
        empty = '<td colspan="4" class="none">no run is finished</td><td class="none">0</td>'
        return f"<tr><th>{chip(label, look)}</th>{empty}</tr>"
    row, mark = found
    sd = f" ± {row['sd']:.2f}" if row["sd"] is not None else ""
    star = {"best": "★ ", "near": "☆ "}.get(mark, "")
    missing = row["asked_seeds"] > row["seeds"]
    seeds = f"{row['seeds']} of {row['asked_seeds']}" if missing else f"{row['seeds']}"
    return (
        f"<tr><th>{chip(label, look)}</th>"
        f'<td class="{mark}">{star}{row["accuracy"]:.2f}{sd}</td>'
        f"<td>{100 * row['achieved']:.2f}%</td>"
        f"<td>{_share(row['parameters'], row['dense_parameters'])}</td>"
        f"<td>{_share(row['macs'], row['dense_macs'])}</td>"
        f'<td class="{"none" * missing}">{seeds}</td></tr>'
    )


def _share(live: int, whole: int) -> str:
    return f'{live:,} <span class="share">{100 * live / max(1, whole):.1f}%</span>'
