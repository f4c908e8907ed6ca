"""Pictures made of characters: curves and masks for a terminal."""

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
    steps: Sequence[int], values: Sequence[float], total: int, width: int = 60, height: int = 8
) -> list[str]:
    """Lines of a curve over the steps 0 to `total`: dots at the means of what falls into a column."""
    columns: list[list[float]] = [[] for _ in range(width)]
    for step, value in zip(steps, values, strict=True):
        if math.isfinite(value):
            columns[min(width - 1, int(width * step / max(1, total)))].append(value)
    found = [value for column in columns for value in column]
    if not found:
        return ["(nothing yet)"]
    low, high = min(found), max(found)
    rows = [[" "] * width for _ in range(height)]
    for i, column in enumerate(columns):
        if column:
            place = (sum(column) / len(column) - low) / (high - low) if high > low else 0.5
            rows[height - 1 - min(height - 1, int(height * place))][i] = "•"
    names = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"]
    wide = max(map(len, names))
    return [f"{name:>{wide}} │{''.join(row)}" for name, row in zip(names, rows, strict=True)]


def mask(blocks: np.ndarray, width: int = 100) -> list[str]:
    """Lines of a 0/1 matrix, two rows to a line; a larger one is thinned out, and says so."""
    step = max(1, math.ceil(blocks.shape[1] / width), math.ceil(blocks.shape[0] / width))
    thin = blocks[::step, ::step].astype(bool)
    if len(thin) % 2:
        thin = np.vstack([thin, np.zeros_like(thin[:1])])
    codes = thin[::2] + 2 * thin[1::2]
    lines: list[str] = ["".join(HALVES[code] for code in row) for row in codes]
    return [*lines, f"(every {step}th row and column)"] if step > 1 else lines
