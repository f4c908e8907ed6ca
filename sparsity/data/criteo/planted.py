"""Files in the exact format of `train.txt`, with a structure planted in them that a model can learn.

Nothing here is of Criteo's data but its format and what has been published of its shape: how many
values each category has, about how often each field is empty, and that 25.6% of the rows are clicks. Values
have a long tail (log-uniform ranks, Zipf's law with exponent 1). A click depends on the fields of
`Structure` and on no other: what an ideal pruning of the first layer leaves is known.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sparsity.data.criteo.lines import CATEGORIES, NUMBERS

# Values per category in the published set of 45,840,617 rows.
VALUES = (
    *(1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194),
    *(27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572),
)
# Shares of rows in which a field is empty: 13 numbers, then 26 categories; of the size of the real ones.
EMPTY = (
    *(0.45, 0.0, 0.21, 0.22, 0.03, 0.22, 0.04, 0.0, 0.04, 0.45, 0.04, 0.76, 0.22),
    *(0.0, 0.0, 0.03, 0.03, 0.0, 0.12, 0.0, 0.0, 0.0, 0.0, 0.0, 0.03, 0.0),
    *(0.0, 0.0, 0.03, 0.0, 0.0, 0.44, 0.44, 0.03, 0.76, 0.0, 0.03, 0.44, 0.44),
)
# Numbers are floor(scale * (-log u)^tail) + lowest.
SCALES = (2.0, 60.0, 12.0, 6.0, 9000.0, 60.0, 8.0, 12.0, 60.0, 0.6, 2.0, 0.5, 6.0)
TAILS = (1.6, 2.2, 2.0, 1.2, 2.4, 2.0, 2.2, 1.4, 1.8, 0.6, 1.4, 1.8, 1.8)
LOWEST = (0, -3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
CLICKS = 0.256
ROWS = 65_536  # generated at a time; the same rows come at any length of the file
LEVELS = 2**11  # a draw's low bits say whether a field is empty, the others what it is


class Structure(NamedTuple):
    """What a click depends on: fields from 0 to 12 (numbers) and from 0 to 25 (categories).

    numbers: with the weight of each one's logarithm. categories: with the deviation of its values'
    effects. pairs: of categories whose values act together, with that deviation. intercept: that
    of the logit, so that CLICKS of the rows are clicks.
    """

    numbers: tuple[tuple[int, float], ...]
    categories: tuple[tuple[int, float], ...]
    pairs: tuple[tuple[int, int, float], ...]
    intercept: float


def structure(seed: int) -> Structure:
    """Five numbers, eight categories and three pairs among these, drawn from the seed."""
    order = np.argsort(np.random.PCG64([seed, 2]).random_raw(NUMBERS), kind="stable")
    numbers = tuple((int(f), w) for f, w in zip(order, (0.5, -0.4, 0.3, -0.3, 0.2), strict=False))
    order = np.argsort(np.random.PCG64([seed, 3]).random_raw(CATEGORIES), kind="stable")
    chosen = [int(f) for f in order[:8]]
    categories = tuple((f, 0.6) for f in chosen)
    pairs = tuple((chosen[2 * i], chosen[2 * i + 1], 0.5) for i in range(3))
    bare = Structure(numbers, categories, pairs, 0.0)
    return bare._replace(intercept=_balanced(_logits(bare, seed, _drawn(seed, 0, ROWS))))


def text(seed: int, rows: int) -> Iterator[bytes]:
    """The file's lines, some ten thousand at a time; the first rows are the same at any length."""
    planted = structure(seed)
    for block in range(-(-rows // ROWS)):
        drawn = _drawn(seed, block, ROWS)
        draws = _uniform(np.random.PCG64([seed, 1, block]).random_raw(ROWS))
        clicks = draws < _logistic(_logits(planted, seed, drawn) + planted.intercept)
        yield _written(clicks, drawn, seed, min(ROWS, rows - block * ROWS))


class _Drawn(NamedTuple):
    """Rows before they are written: numbers and ranks int64 (n, 13) and (n, 26), and what is empty."""

    numbers: np.ndarray
    ranks: np.ndarray
    empty: np.ndarray


def _drawn(seed: int, block: int, rows: int) -> _Drawn:
    raw = np.random.PCG64([seed, 0, block]).random_raw(rows * (NUMBERS + CATEGORIES))
    raw = raw.reshape(rows, NUMBERS + CATEGORIES)
    empty = (raw % LEVELS).astype(np.int64) < np.array(EMPTY) * LEVELS
    u = _uniform(raw)
    numbers = np.array(SCALES) * (-np.log1p(-u[:, :NUMBERS])) ** np.array(TAILS)
    ranks = np.exp(u[:, NUMBERS:] * np.log(np.array(VALUES) + 1.0)) - 1.0
    return _Drawn(
        np.minimum(numbers, 9_999_999).astype(np.int64) + np.array(LOWEST),
        np.minimum(ranks, np.array(VALUES) - 1).astype(np.int64),
        empty,
    )


def _uniform(raw: np.ndarray) -> np.ndarray:
    return (raw >> np.uint64(11)) * 2.0**-53


def _logits(planted: Structure, seed: int, drawn: _Drawn) -> np.ndarray:
    """Those of the rows' clicks (n,), without the intercept; an empty field adds nothing."""
    total = np.zeros(len(drawn.numbers))
    there = ~drawn.empty
    for field, weight in planted.numbers:
        x = drawn.numbers[:, field]
        total += there[:, field] * weight * (np.log1p(np.maximum(x, 0)) - 2.0)
    for field, spread in planted.categories:
        own = _effects(drawn.ranks[:, field], seed, field)
        total += there[:, NUMBERS + field] * spread * own
    for first, second, spread in planted.pairs:
        # Their values fall into 8 kinds each, so that what a pair does can be learned.
        kinds = 8 * (drawn.ranks[:, first] % 8) + drawn.ranks[:, second] % 8
        both = there[:, NUMBERS + first] & there[:, NUMBERS + second]
        total += both * spread * _effects(kinds, seed, CATEGORIES + first)
    return total


def _effects(values: np.ndarray, seed: int, field: int) -> np.ndarray:
    """One number per value, of mean 0 and deviation 1 over all values, from its hash."""
    mixed = _mixed(values, seed + 7, field)
    return (mixed / 2.0**32 - 0.5) * np.sqrt(12.0)


def _mixed(values: np.ndarray, seed: int, field: int) -> np.ndarray:
    """A permutation of the 32-bit numbers that depends on seed and field: distinct values stay distinct."""
    x = values.astype(np.uint32) + np.uint32((seed * 0x9E3779B9 + field * 0x85EBCA6B) % 2**32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return x ^ (x >> np.uint32(16))


def _balanced(logits: np.ndarray) -> float:
    """The intercept under which CLICKS of the rows are clicks, by bisection."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _logistic(logits + middle).mean() < CLICKS else (low, middle)
    return low


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _written(clicks: np.ndarray, drawn: _Drawn, seed: int, rows: int) -> bytes:
    """The first rows as text: each field in a cell of its greatest width, then all padding dropped."""
    cells = [(clicks[:rows] + ord("0")).astype(np.uint8)[:, None]]
    for field in range(NUMBERS):
        cell = _decimals(drawn.numbers[:rows, field])
        cells.append(_cell(cell, drawn.empty[:rows, field]))
    for field in range(CATEGORIES):
        cell = _hexadecimals(_mixed(drawn.ranks[:rows, field], seed, field))
        cells.append(_cell(cell, drawn.empty[:rows, NUMBERS + field]))
    cells.append(np.full((rows, 1), ord("\n"), np.uint8))
    flat = np.concatenate(cells, 1).ravel()
    return flat[flat > 0].tobytes()


def _cell(characters: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """A tab, then the characters where the field is not empty."""
    tab = np.full((len(characters), 1), ord("\t"), np.uint8)
    return np.concatenate([tab, np.where(empty[:, None], np.uint8(0), characters)], 1)


def _decimals(values: np.ndarray) -> np.ndarray:
    """Characters (n, 8) of whole numbers of at most 7 digits, 0 where there is none."""
    places, size = 10 ** np.arange(6, -1, -1), np.abs(values)[:, None]
    digits = (size // places % 10 + ord("0")).astype(np.uint8)
    digits[(size < places) & (places > 1)] = 0
    sign = np.where(values < 0, ord("-"), 0).astype(np.uint8)[:, None]
    return np.concatenate([sign, digits], 1)


def _hexadecimals(values: np.ndarray) -> np.ndarray:
    """Characters (n, 8) of 32-bit numbers."""
    nibbles = (values[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & np.uint32(15)
    return np.frombuffer(b"0123456789abcdef", np.uint8)[nibbles]


def described(planted: Structure) -> str:
    """What clicks depend on, in words."""
    numbers = ", ".join(f"I{f + 1} ({w:+})" for f, w in planted.numbers)
    categories = ", ".join(f"C{f + 1}" for f, _ in planted.categories)
    pairs = ", ".join(f"C{a + 1} with C{b + 1}" for a, b, _ in planted.pairs)
    return f"clicks depend on {numbers}; {categories}; {pairs}; and on nothing else"
