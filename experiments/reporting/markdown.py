"""The Markdown that pages of results share: tables, and how something was made."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head."""
    head, *body = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join([head, f"|{' --- |' * len(rows[0])}", *body])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def page(parts: Sequence[str]) -> str:
    """A document of its paragraphs; empty ones are left out."""
    return "\n\n".join(filter(None, parts)) + "\n"


def provenance(how: Mapping[str, Any]) -> str:
    """The command that made something, on what device, with what versions."""
    there = how["surroundings"]
    if not there:
        return f"`{how['command']}`; no run is done"
    versions = ", ".join(f"{k} {v}" for k, v in there["versions"].items())
    device = " ".join(dict.fromkeys(there["device"].split()))
    return f"`{how['command']}`; {device}, {there['cores']} cores, Python {there['python']}, {versions}"
