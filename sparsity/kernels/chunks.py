"""The live blocks of each column in runs of a few, for kernels with a static grid of steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sparsity.kernels.layout import Layout


class Chunks(NamedTuple):
    """The live blocks of each column in runs of at most `size`, for kernels with a static grid of steps.

    col, first, length: int32 (C + capacity // size,): the run's column, its first packed place and how many
    blocks it has. Every column has a run, an empty one of length 0; unused slots at the end repeat the last
    column with length 0, so that `col` never falls.
    """

    col: jax.Array
    first: jax.Array
    length: jax.Array


def chunks(layout: Layout, size: int, least: int = 1) -> Chunks:
    """The columns' live blocks in runs of at most `size`; an empty column has `least` runs, 1 or 0."""
    slots = layout.grid[1] + layout.capacity // size
    counts = layout.col_starts[1:] - layout.col_starts[:-1]
    runs = jnp.maximum(least, -(-counts // size))
    before = jnp.cumsum(runs) - runs
    slot = jnp.arange(slots, dtype=jnp.int32)
    col = last_not_above(before, slot)
    done = (slot - before[col]) * size
    length = jnp.clip(counts[col] - done, 0, size)
    return Chunks(col, jnp.where(length > 0, layout.col_starts[col] + done, 0), length)


def last_not_above(sorted_: jax.Array, values: jax.Array) -> jax.Array:
    """The last place of each value's lower bound; all pairs at once, as a search is a loop of small kernels."""
    return jnp.sum(sorted_ <= values[:, None], axis=1, dtype=jnp.int32) - 1
