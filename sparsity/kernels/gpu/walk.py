"""A weight as the GPU's product walks it: down each column of blocks, a step of the kernel at a time.

Blocks with 32 or more weights along the walk are a step each, and their weights stay where they are packed, for
dX too. Blocks with 16 go four to a step: there x lies (features, batch), as rows of 16 features are less than
the copies need to be fast, and the blocks are copied side by side.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sparsity.kernels.chunks import chunks
from sparsity.kernels.gpu.pieces import Window
from sparsity.kernels.layout import Layout

# Weights along the walk that a step has at most.
DEPTH = 64
# Blocks with fewer along the walk share a step.
SINGLE = 32


class Walk(NamedTuple):
    """The columns of a weight, or of its transpose.

    layout:  whose columns are walked.
    packed:  (capacity, rows, cols), the blocks of the weight itself.
    places:  int32 (capacity,), where each block of the transpose's layout is packed; None for the weight's own.
    window:  of a convolution, None for a product of matrices.
    """

    layout: Layout
    packed: jax.Array
    places: jax.Array | None
    window: Window | None = None

    @property
    def shared(self) -> int:
        """Blocks of a step. Static."""
        rows = self.layout.block[0]
        return 1 if rows >= SINGLE else DEPTH // rows

    @property
    def image(self) -> tuple[int, ...]:
        """(height, width) of what a row of x becomes; () for a matrix. Static."""
        return () if self.window is None else self.window.image

    @property
    def blocks(self) -> int:
        """Blocks of columns of y. Static."""
        return self.layout.grid[1] if self.window is None else self.window.made

    @property
    def features(self) -> int:
        """Columns of y, of a pixel where there is a window. Static."""
        return self.layout.shape[1] // (1 if self.window is None else self.window.phases)


class Steps(NamedTuple):
    """What the kernel reads of a walk, with `shared` blocks to a step; S steps.

    starts:   int32 (C + 1,), column c's steps are starts[c] to starts[c + 1].
    order:    int32 (C,), columns by live count, most first.
    rows:     int32 (S * shared,), the block row of each block, which says what it reads of x.
    places:   int32 (S,), where each step's weights lie; None where that is its own number.
    weights:  (rows, columns): blocks below each other, or if they lie across the walk, as Wᵀ.
    """

    starts: jax.Array
    order: jax.Array
    rows: jax.Array
    places: jax.Array | None
    weights: jax.Array


class Runs(NamedTuple):
    """Up to `size` live blocks of a column each, in the order of columns; S = C + capacity // size at most.

    starts: int32 (C + 1,), column c's runs are starts[c] to starts[c + 1]; the last one is how many there are.
    col, first, length: int32 (S,), a run's column, its first place and its blocks, 0 of them in spare runs.
    """

    starts: jax.Array
    col: jax.Array
    first: jax.Array
    length: jax.Array


def depth(rows: int) -> int:
    """Weights along the walk that a step has, of blocks with so many."""
    return DEPTH if rows < SINGLE else min(rows, DEPTH)


def steps_of(walk: Walk) -> Steps:
    """The tables, and the weights where the kernel finds them."""
    if walk.shared > 1:
        return _shared_steps(walk)
    layout = walk.layout
    return Steps(
        starts=layout.col_starts,
        order=layout.cols_by_count,
        rows=layout.rows,
        places=walk.places,
        weights=walk.packed.reshape(-1, walk.packed.shape[2]),
    )


def runs_of(layout: Layout, size: int) -> Runs:
    """The live blocks in runs. A run of one block is its place."""
    if size == 1:
        one = jnp.ones(layout.capacity, jnp.int32)
        places = jnp.arange(layout.capacity, dtype=jnp.int32)
        return Runs(layout.col_starts, layout.cols, places, one)
    counts = layout.col_starts[1:] - layout.col_starts[:-1]
    ends = jnp.cumsum(-(-counts // size), dtype=jnp.int32)
    starts = jnp.concatenate([jnp.zeros(1, jnp.int32), ends])
    return Runs(starts, *chunks(layout, size, least=0))


def _shared_steps(walk: Walk) -> Steps:
    """Steps of several blocks: beyond a run's length its first block's x, times weights that are 0."""
    layout, size = walk.layout, walk.shared
    runs = runs_of(layout, size)
    along = jnp.arange(size, dtype=jnp.int32)
    alive = along < runs.length[:, None]
    place = runs.first[:, None] + jnp.where(alive, along, 0)
    whose = place if walk.places is None else walk.places[place]
    blocks = jnp.where(alive[:, :, None, None], walk.packed[whose], 0)
    # (run, block, along, across) -> (run, across, block, along): Wᵀ, so that its rows are long.
    blocks = blocks.transpose((0, 3, 1, 2) if walk.places is None else (0, 2, 1, 3))
    return Steps(
        starts=runs.starts,
        order=layout.cols_by_count,
        rows=layout.rows[place].ravel(),
        places=None,
        weights=blocks.reshape(-1, size * layout.block[0]),
    )
