"""What a terminal shows, made of characters: curves, masks, tables."""

import math
from collections.abc import Sequence

import numpy as np

EIGHTHS = " ▁▂▃▄▅▆▇█"
# Two rows of a mask in one line: neither, upper, lower, both.
HALVES = " ▀▄█"


def area(values: Sequence[float], height: int, top: float) -> list[str]:
    """Lines of a filled curve from 0 to `top`, one column per value; NaN leaves its column empty."""
    filled = [8 * height * v / top if top and math.isfinite(v) else 0.0 for v in values]
    return [
        "".join(EIGHTHS[min(8, max(0, round(f - 8 * row)))] for f in filled)
        for row in reversed(range(height))
    ]


def curve(
    steps: Sequence[int],
    values: Sequence[float],
    total: int,
    *,
    log: bool = False,
    width: int = 60,
    height: int = 8,
) -> list[str]:
    """Lines of a curve over the steps 0 to `total`: dots at the means of what falls into a column.

    log: whether heights are those of logarithms; values of 0 and less are then left out.
    """
    columns: list[list[float]] = [[] for _ in range(width)]
    for step, value in zip(steps, values, strict=True):
        if math.isfinite(value) and (value > 0 or not log):
            column = min(width - 1, int(width * step / max(1, total)))
            columns[column].append(math.log(value) if log else value)
    found = [value for column in columns for value in column]
    if not found:
        return ["(nothing yet)"]
    low, high = min(found), max(found)
    rows = [[" "] * width for _ in range(height)]
    for i, column in enumerate(columns):
        if column:
            place = (sum(column) / len(column) - low) / (high - low) if high > low else 0.5
            rows[height - 1 - min(height - 1, int(height * place))][i] = "•"
    top, bottom = (math.exp(value) if log else value for value in (high, low))
    return _framed(
        ["".join(row) for row in rows], f"{top:.4g}", f"{bottom:.4g}", f"{total:,} steps"
    )


def _framed(rows: Sequence[str], top: str, bottom: str, last: str) -> list[str]:
    """Rows between two axes, with names at the ends of both."""
    names = [top, *[""] * (len(rows) - 2), bottom]
    wide, width = max(map(len, names)), len(rows[0])
    return [
        *(f"{name:>{wide}} │{row}".rstrip() for name, row in zip(names, rows, strict=True)),
        f"{'':>{wide}} └{'─' * width}",
        f"{'':>{wide}}  0{last:>{width - 1}}",
    ]


def mask(blocks: np.ndarray, width: int = 100) -> list[str]:
    """Lines of a 0/1 matrix, two rows to a line; what is larger than `width` is thinned out, and says so."""
    step = max(1, math.ceil(blocks.shape[1] / width), math.ceil(blocks.shape[0] / width))
    thin = blocks[::step, ::step].astype(bool)
    if len(thin) % 2:
        thin = np.vstack([thin, np.zeros_like(thin[:1])])
    codes = thin[::2] + 2 * thin[1::2]
    lines: list[str] = [f"│{''.join(HALVES[code] for code in row)}│" for row in codes]
    return [*lines, f"(one row and column of {step} is shown)"] if step > 1 else lines


def table(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of a table, the first `left` columns flush left and the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        [
            cell.ljust(wide) if i < left else cell.rjust(wide)
            for i, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    return ["  ".join(line).rstrip() for line in lines]


def plain(text: str) -> str:
    """The text without what steers a terminal: a file of a run may come from elsewhere."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
