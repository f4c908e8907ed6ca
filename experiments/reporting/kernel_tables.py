"""Ratios of a kernel benchmark as rows of Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(parts: Sequence[Mapping[str, Any]], verb: str) -> list[str]:
    """A row per layer, dtype and block, a column per density."""
    having = [part for part in parts if verb in part["ratios"]]
    percents = sorted({float(p) for part in having for p in part["ratios"][verb]}, reverse=True)
    head = " | ".join(f"{percent:g}%" for percent in percents)
    lines = [f"| layer | dtype | block | {head} |", "| --- " * (3 + len(percents)) + "|"]
    for part in sorted(having, key=_place):
        ratios = part["ratios"][verb]
        row = [f"{ratios[f'{p:g}']:.2f}" if f"{p:g}" in ratios else "" for p in percents]
        start = f"| {part['layer']} | {part['dtype']} | {part['block']} | "
        lines.append(start + " | ".join(row) + " |")
    return lines


def cells(part: Mapping[str, Any]) -> list[str]:
    """What the dense programs of a part took, and its fall-back's step relative to them."""
    ms = [f"{value:.2f}" for value in part["dense ms"].values()]
    name = f"{part['layer']}, block {part['block']}"
    return [name, part["dtype"], *ms, f"{part['fall-back']['step']:.2f}"]


def _place(part: Mapping[str, Any]) -> tuple[str, str, int]:
    return part["layer"], part["dtype"], part["block"]
