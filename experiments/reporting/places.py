"""A cell of a table in words: "8x8, 90%"."""

from collections.abc import Mapping
from typing import Any


def place_of(cell: Mapping[str, Any]) -> str:
    """Block and sparsity as usual, other fields by their names; "" for the cell of a dense arm."""
    return ", ".join(_said(field, value) for field, value in cell.items())


def block_of(cell: Mapping[str, Any]) -> str:
    """Its block alone, "8x8"; "" where it sets none."""
    return "x".join(str(n) for n in cell.get("blocks.block", ()))


def _said(field: str, value: Any) -> str:
    if field == "blocks.block":
        return "x".join(str(n) for n in value)
    if field == "density":
        return f"{100 * (1 - float(value)):.4g}%"
    return f"{field.split('.')[-1]} {value}"
