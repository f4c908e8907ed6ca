"""Where the TPU's kernels find the rows of x that a block row of W is multiplied with.

For a matrix product it is the block's columns of x. A convolution reads the same images for all rows of its
window, each some lines of pixels further down (`lines`), so that it is the same product and nothing is copied
per row.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sparsity.kernels.tpu.runs import Runs


class Sources(NamedTuple):
    """One entry per block row of the grid.

    feature: int32 (R,), which block of columns of x; None where it is the row itself.
    shift:   int32 (R,), how many lines further down the tile begins; None where none does.
    line:    rows of x in a line. Static, and in whole tiles of the kernel, so that all begin at one.
    lines:   one more than the largest shift. Static.
    """

    feature: jax.Array | None = None
    shift: jax.Array | None = None
    line: int = 0
    lines: int = 1

    def of_runs(self, runs: Runs) -> tuple[jax.Array, jax.Array]:
        """Both of each run's blocks, (S * size,), as kernels read them; one 0 where there is no shift."""
        rows = runs.rows.ravel()
        feature = rows if self.feature is None else self.feature[rows]
        return feature, jnp.zeros(1, jnp.int32) if self.shift is None else self.shift[rows]


# Of a matrix product: block row i reads the i-th block of columns.
MATRIX = Sources()
