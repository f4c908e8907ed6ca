"""A convolution's weight by the taps of its window, and turned around for the gradient of images.

The gradient of images is a convolution too, of dy, with strides of 1: its window has a phase's taps, last ones
first, and for each phase between strides it has outputs of its own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparsity.kernels.chunks import last_not_above
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import Layout, by_count


class _Turn(NamedTuple):
    """Static numbers of a turned weight.

    inside, outputs: blocks of channels, and of outputs. grid: (rows, columns) of blocks.
    back, phase: (taps,), the tap of the gradient's window that each tap becomes, and of which phase.
    """

    inside: int
    outputs: int
    grid: tuple[int, int]
    back: np.ndarray
    phase: np.ndarray


def refusal(layout: Layout, geometry: Geometry) -> str:
    """Why a block row is not (tap, channel block), in words; "" where it is."""
    rows, channels = layout.block[0], geometry.image[2]
    if channels % rows:
        return f"blocks of {rows} rows do not divide the {channels} channels"
    return ""


def back(geometry: Geometry) -> tuple[int, int]:
    """(height, width) of the gradient's window."""
    (down, along), (high, wide) = geometry.kernel, geometry.strides
    return (down - 1) // high + 1, (along - 1) // wide + 1


def turned(layout: Layout, geometry: Geometry) -> tuple[Layout, jax.Array]:
    """The gradient's weight, and int32 (capacity,), where each of its blocks is packed.

    Its rows are (tap of the gradient's window, output block), its columns (phase, channel block).
    """
    turn, alive = _turn(layout, geometry), layout.live
    (tall, wide), (rows, cols) = turn.grid, layout.block
    col_starts, by_row = _by_column(layout, turn)
    row_starts, packed = _by_row(layout, turn)
    whose = layout.by_row[by_row]
    tap, block = layout.rows[whose] // turn.inside, layout.rows[whose] % turn.inside
    row_of = jnp.asarray(turn.back)[tap] * turn.outputs + layout.cols[whose]
    col_of = jnp.asarray(turn.phase)[tap] * turn.inside + block
    place = jnp.arange(layout.capacity, dtype=jnp.int32)
    found = Layout(
        shape=(tall * cols, wide * rows),
        block=(cols, rows),
        capacity=layout.capacity,
        count=layout.count,
        rows=jnp.where(alive, row_of, tall - 1),
        cols=jnp.where(alive, col_of, wide - 1),
        col_starts=col_starts,
        by_row=jnp.zeros_like(place).at[whose].set(place)[packed],
        row_starts=row_starts,
        cols_by_count=by_count(col_starts),
        rows_by_count=by_count(row_starts),
    )
    return found, whose


def _turn(layout: Layout, geometry: Geometry) -> _Turn:
    (high, wide), (tall, broad) = geometry.strides, back(geometry)
    inside, outputs = geometry.image[2] // layout.block[0], layout.grid[1]
    down, along = (a.ravel() for a in np.indices(geometry.kernel, np.int32))
    last_first = (tall - 1 - down // high) * broad + broad - 1 - along // wide
    grid = (tall * broad * outputs, high * wide * inside)
    return _Turn(inside, outputs, grid, last_first, down % high * wide + along % wide)


def _by_column(layout: Layout, turn: _Turn) -> tuple[jax.Array, jax.Array]:
    """Where columns begin, and which of the blocks by row each is: a row's blocks stay together."""
    tap, block = np.divmod(np.arange(layout.grid[0], dtype=np.int32), turn.inside)
    line = turn.phase[tap] * turn.inside + block
    return _regrouped(layout, layout.row_starts, line, turn.back[tap], turn.grid[1])


def _by_row(layout: Layout, turn: _Turn) -> tuple[jax.Array, jax.Array]:
    """Where rows begin, and which of the packed blocks each is: those of an output's tap stay together."""
    taps = len(turn.back)
    output, tap = np.divmod(np.arange(turn.outputs * taps, dtype=np.int32), taps)
    group = layout.cols * taps + layout.rows // turn.inside
    counts = jnp.zeros(output.size, jnp.int32).at[group].add(layout.live.astype(jnp.int32))
    line = turn.back[tap] * turn.outputs + output
    return _regrouped(layout, _starts(counts), line, turn.phase[tap], turn.grid[0])


def _regrouped(
    layout: Layout, starts: jax.Array, line: np.ndarray, within: np.ndarray, lines: int
) -> tuple[jax.Array, jax.Array]:
    """Where lines begin, and which block stands at each place when groups of blocks are sorted by their line.

    starts: where groups begin as they are. line, within: each group's line, and its rank in it.
    """
    order = np.lexsort((within, line))
    there = _starts((starts[1:] - starts[:-1])[order])
    place = jnp.arange(layout.capacity, dtype=jnp.int32)
    group = last_not_above(there[:-1], place)
    source = starts[jnp.asarray(order)[group]] + place - there[group]
    begin = there[np.searchsorted(line[order], np.arange(lines + 1))]
    return begin, jnp.where(layout.live, source, place)


def _starts(counts: jax.Array) -> jax.Array:
    """Where groups of so many begin, and the end; all pairs at once, which is one kernel."""
    before = jnp.arange(counts.size + 1)[:, None] > jnp.arange(counts.size)
    return jnp.sum(jnp.where(before, counts, 0), axis=1, dtype=jnp.int32)
