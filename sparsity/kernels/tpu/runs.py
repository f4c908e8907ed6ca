"""Live blocks side by side in runs, so that small blocks fill a tile of a matrix unit.

A run holds up to `size` live blocks of one column of the grid, one below the other: a matrix (size * rows, cols)
that the run's columns of x, beside each other, are multiplied with.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sparsity.kernels.chunks import chunks
from sparsity.kernels.layout import Layout


class Runs(NamedTuple):
    """Which blocks each run holds; S = C + capacity // size runs, those without blocks included.

    col:    int32 (S,), the run's column; it never falls, and every column has a run.
    length: int32 (S,), how many blocks the run has: 0 for an empty column and for spare runs at the end.
    source: int32 (S,), the run itself, for spare runs the last one in use: nothing is fetched for them.
    rows:   int32 (S, size), the rows of the run's blocks; beyond its length its first one, so that numbers
            that are not finite go only where they belong.
    place:  int32 (S, size), the packed places; beyond the run's length `capacity`, which is none.
    """

    col: jax.Array
    length: jax.Array
    source: jax.Array
    rows: jax.Array
    place: jax.Array


@functools.partial(jax.jit, static_argnums=1)
def runs_of(layout: Layout, size: int) -> Runs:
    """The layout's live blocks in runs of at most `size`."""
    found = chunks(layout, size)
    along = jnp.arange(size, dtype=jnp.int32)
    place = found.first[:, None] + along
    alive = along < found.length[:, None]
    rows = layout.rows[jnp.minimum(place, layout.capacity - 1)]
    slot = jnp.arange(found.col.size, dtype=jnp.int32)
    last = jnp.max(jnp.where(found.length > 0, slot, 0))
    return Runs(
        col=found.col,
        length=found.length,
        source=jnp.minimum(slot, last),
        rows=jnp.where(alive, rows, rows[:, :1]),
        place=jnp.where(alive, place, layout.capacity),
    )


def to_runs(packed: jax.Array, runs: Runs) -> jax.Array:
    """(S, size * rows, cols): the runs of packed blocks (capacity, rows, cols), 0 where a run has none."""
    (capacity, rows, cols), (slots, size) = packed.shape, runs.place.shape
    blocks = packed[jnp.minimum(runs.place, capacity - 1)]
    blocks = jnp.where((runs.place < capacity)[:, :, None, None], blocks, 0)
    return blocks.reshape(slots, size * rows, cols)


def from_runs(held: jax.Array, runs: Runs, layout: Layout) -> jax.Array:
    """(capacity, rows, cols): the packed blocks that runs (S, size * rows, cols) hold, 0 in padding."""
    (rows, cols), (slots, size) = layout.block, runs.place.shape
    blocks = held.reshape(-1, rows, cols)
    where = jnp.zeros(layout.capacity, jnp.int32)
    where = where.at[runs.place.ravel()].set(jnp.arange(slots * size, dtype=jnp.int32), mode="drop")
    return jnp.where(layout.live[:, None, None], blocks[where], 0)
