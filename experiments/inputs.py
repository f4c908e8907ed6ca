"""What a served model is asked with: examples as a data set has them, and what the network makes of them."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.assembly.sets import Sets
from experiments.assembly.streaming import Part, present
from sparsity.data.pixels import standardise
from sparsity.data.stream import MEAN, STD
from sparsity.data.tables import Table

BATCH = 512  # examples of a batch that is read


class Inputs(NamedTuple):
    """Of one data set.

    shape, dtype: of one example: uint8 (H, W, C) of an image or picture, int32 (columns,) of a table.
    prepared: examples (n, ...) -> what the network takes.
    scored:   the evaluation set, as batches of examples and their labels.
    """

    shape: tuple[int, ...]
    dtype: Any
    prepared: Callable[[jax.Array], jax.Array]
    scored: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]


def inputs_of(sets: Sets) -> Inputs:
    """The inputs of a run's sets."""
    test = sets.test
    if isinstance(test, Part):
        shape = (test.side, test.side, 3)
        return Inputs(shape, np.uint8, _standardised(MEAN, STD), lambda: _pictures(test))
    if isinstance(test, Table):
        return Inputs((test.rows.shape[1] - 1,), np.int32, lambda rows: rows, lambda: _rows(test))
    prepared = _standardised(test.mean, test.std)
    arrays = test.images, test.labels
    return Inputs(
        test.images.shape[1:], np.uint8, prepared, lambda: zip(*map(_cut, arrays), strict=True)
    )


def _standardised(mean: Any, std: Any) -> Callable[[jax.Array], jax.Array]:
    return lambda images: standardise(images, jnp.asarray(mean), jnp.asarray(std))


def _cut(array: np.ndarray) -> list[np.ndarray]:
    return [array[i : i + BATCH] for i in range(0, len(array), BATCH)]


def _rows(table: Table) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for places in _cut(table.places):
        rows = table.rows[places]
        yield rows[:, 1:], rows[:, 0]


def _pictures(part: Part) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for rows in present(part).evaluation(BATCH):
        there = rows["weight"] > 0
        yield rows["image"][there], rows["label"][there]
