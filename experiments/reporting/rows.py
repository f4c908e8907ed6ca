"""The table of a comparison as values and as text: a row per method and sparsity, over the seeds."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.reporting import terminal

HEAD = ("method", "asked", "achieved", "accuracy %", "seeds", "parameters", "MACs")


def rows(finished: Iterable[tuple[str, str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """(label, density, summary) of each run -> means and standard deviations over the seeds, in order."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for label, density, summary in finished:
        groups.setdefault((label, density), []).append(summary)
    return [_row(label, found) for (label, _), found in groups.items()]


def _row(label: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    accuracies = [100 * summary["accuracy"] for summary in found]
    one = found[0]
    return {
        "method": label,
        "asked": one["asked_sparsity"],
        "achieved": one["achieved_sparsity"],
        "accuracy": statistics.mean(accuracies),
        "sd": statistics.stdev(accuracies) if len(found) > 1 else None,
        "seeds": len(found),
        "parameters": round(statistics.mean(s["parameters_live"] for s in found)),
        "macs": round(statistics.mean(s["macs_live"] for s in found)),
    }


def text(table: Sequence[Mapping[str, Any]]) -> str:
    """The table for a terminal."""
    lines = [
        (
            row["method"],
            f"{100 * row['asked']:g}%",
            f"{100 * row['achieved']:.2f}%",
            f"{row['accuracy']:.2f}" + (f" ± {row['sd']:.2f}" if row["sd"] is not None else ""),
            str(row["seeds"]),
            f"{row['parameters']:,}",
            f"{row['macs']:,}",
        )
        for row in table
    ]
    return "\n".join(terminal.table([HEAD, *lines], left=1))
