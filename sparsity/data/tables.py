"""Sets of rows with numbers and categories, for click logs and census data: read, and cut in three by a seed.

A row is int32: the label (0 or 1), numbers, then for each category a row of the one embedding table.
`MISSING` stands for a number that is not there.
"""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from sparsity.data import adult
from sparsity.data.criteo import sets as criteo
from sparsity.data.criteo.lines import MISSING
from sparsity.data.order import epoch_order

__all__ = ["MISSING", "READERS", "Table", "batch", "parts", "read", "shares"]

Arrays = tuple[np.ndarray, int, int]
READERS: dict[str, Callable[[Path | None], Arrays]] = {
    "criteo": partial(criteo.read, criteo.CRITEO),
    "criteo_generated": partial(criteo.read, criteo.GENERATED),
    "adult": adult.read,
}
VALIDATION = 0.18
CUT = 2**32 - 1  # the epoch, reached by no run, whose order cuts the set


class Table(NamedTuple):
    """One part of a set.

    rows:    int32 (N, 1 + numbers + categories) of all parts, perhaps mapped from a file.
    places:  int32 (n,), ascending: the rows that are this part's.
    numbers: how many of the columns are numbers. entries: rows of the embedding table.
    """

    name: str
    rows: np.ndarray
    places: np.ndarray
    numbers: int
    entries: int

    @property
    def size(self) -> int:
        """Rows of the part."""
        return len(self.places)


def read(name: str, root: Path | None, validation: float = 0.0, seed: int = 0) -> dict[str, Table]:
    """The parts "train", "validation" and "test" of a set.

    validation: 0, or the 0.18 that the set's own validation part is; what is asked for of other sets
    is another share, which a cut made once and for all does not give. Click logs of another number of rows
    than the published are cut in the same ratio, and a warning says so.

    Raises:
      ValueError: for another share, and where the files are broken.
      FileNotFoundError: where the set is not there: how to get it.
    """
    if validation not in (0, VALIDATION):
        raise ValueError(
            f"data.validation is {validation!r}, but {name} is cut 72:18:10 once and for all: take "
            f"{VALIDATION} to be judged on its validation part, or 0 on its test part"
        )
    rows, numbers, entries = READERS[name](root)
    if name == criteo.CRITEO.name and len(rows) != criteo.PUBLISHED:
        warnings.warn(_another(len(rows)), stacklevel=2)
    cuts = zip(("train", "validation", "test"), parts(len(rows), seed), strict=True)
    return {part: Table(name, rows, places, numbers, entries) for part, places in cuts}


def _another(n: int) -> str:
    """That a set of click logs is not the published one, in words."""
    sizes = ["/".join(f"{size:,}" for size in cut) for cut in (shares(n), criteo.SPLIT)]
    return (
        f"criteo has {n:,} rows here and {criteo.PUBLISHED:,} as published: it is cut {sizes[0]} in place of "
        f"{sizes[1]}, in about the same ratio, and figures are not of the published parts"
    )


def shares(n: int) -> tuple[int, int, int]:
    """Rows for training, validation and test, n in all.

    Of the click logs' 45,840,617 rows the cut that published figures are of, 33,003,326 / 8,250,124 /
    4,587,167; of any other number floor(18 n / 100) and floor(10 n / 100) for validation and test, and
    the rest for training.

    Raises:
      ValueError: where a part would be empty.
    """
    if n < 10:
        raise ValueError(f"{n} rows cannot be cut 72:18:10")
    held = n * 18 // 100, n * 10 // 100
    return criteo.SPLIT if n == criteo.PUBLISHED else (n - sum(held), *held)


def parts(n: int, seed: int) -> list[np.ndarray]:
    """The three parts' rows, int32 and ascending: a permutation by seed, cut at `shares`."""
    order = epoch_order(seed, CUT, n)
    return [np.sort(part) for part in np.split(order, np.cumsum(shares(n))[:2])]


def batch(rows: jax.Array) -> dict[str, jax.Array]:
    """Rows (n, 1 + columns) as a batch: {"image": int32 (n, columns), "label": int32 (n,)}."""
    return {"image": rows[:, 1:], "label": rows[:, 0]}
