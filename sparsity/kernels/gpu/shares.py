"""Which products of small blocks keep a panel of x in a GPU's shared memory, and how the work is shared out.

`product` reads a tile of x for each live block, which bounds small blocks by the second cache. Where all
features of 64 rows fit into shared memory they are read once, and a block brings its weights alone (`panel`).

Time is counted in rows that the copy engine moves, of 32 or of 64 bytes: by what the other kernels were measured at
on an H200 each takes it some 1.8 clocks, and one of 128 bytes twice that. A block of 16 then takes 29 clocks for its
own 16 rows, for 64 rows of x. Tensor cores read its operands at 128 bytes a clock, in 20 clocks. Its instructions, as
ptxas compiles them, are 21 and as many again for its part of stages, columns and bands: 40 clocks at 10% of 1024
features, which is what its rows take when those of the results are added. `product` takes 57 clocks where its
steps of four blocks are full, 75 with seven blocks in a column, and x has to be transposed for it first. A block of 32
takes 58 clocks here and 119 there, but that one was measured and gains as it is: those have to be asked for, by
`Launch.panels`. No figure of panels was measured.
"""

from typing import NamedTuple

from sparsity.kernels.gpu import budget
from sparsity.kernels.layout import grid_of

# Sides of the blocks that take panels unasked, and the multiprocessors of an H100 and an H200.
SIDES, PROGRAMS = (16,), 132
# Rows of a panel, the least that tensor cores take, and columns of a band: rows of 128 bytes, which are stored fast.
TALL, WIDE = 64, 64
# Groups that multiply: what one waits for, three fill. With the one that copies 640 threads, of 96 registers.
WORKERS = 4
# Stages of a group's ring, and blocks of a stage: with fewer its own instructions are as many as theirs.
STAGES, LEAST, MOST = 3, {16: 6, 32: 2}, 16
# Entries of the table of features that are copied with a stage: one row of 128 bytes.
IDS = 32
# Rows of 64 bytes that one of 128 counts for.
LONG = 2


class Panels(NamedTuple):
    """A product's static facts: `count` rows times a weight (K, N), as it is walked, in blocks of (side, side)."""

    count: int
    shape: tuple[int, int]
    side: int
    capacity: int

    @property
    def panels(self) -> int:
        """Of 64 rows of x."""
        return max(1, -(-self.count // TALL))

    @property
    def grid(self) -> tuple[int, int]:
        """Blocks of features, and columns of blocks."""
        return grid_of(self.shape, (self.side, self.side))

    @property
    def bands(self) -> int:
        """Of 64 columns of y."""
        return -(-self.grid[1] * self.side // WIDE)

    @property
    def copied(self) -> tuple[int, int]:
        """Rows to copy for a panel, and for the weights of all columns with the results."""
        return TALL * self.grid[0], self.capacity * self.side + LONG * TALL * self.bands

    @property
    def most_shares(self) -> int:
        """Shares of the columns at most: each has as many rows of weights as its panel, and a band for each group."""
        own = self.capacity * self.side // (TALL * self.grid[0])
        return min(own, -(-self.bands // WORKERS))

    def rings(self, stages: int = STAGES) -> budget.Rings:
        """What the panel leaves in shared memory for rings of so many stages."""
        entry = budget.ITEMSIZE
        panel, own = TALL * self.grid[0] * self.side * entry, TALL * WIDE * entry
        block = self.side**2 * entry
        found = budget.of_panel(panel, own, block, 4 * IDS, WORKERS, stages)
        spare = max(0, found.batch - MOST)
        return found._replace(
            batch=found.batch - spare, bytes=found.bytes - WORKERS * stages * spare * block
        )

    def shares(self, programs: int) -> int:
        """Shares of the columns that are done first, each with a panel of its own to copy."""
        return min(range(1, max(1, self.most_shares) + 1), key=lambda n: self.rows(programs, n))

    def rows(self, programs: int, shares: int) -> float:
        """Rows that the busiest program copies."""
        panel, rest = self.copied
        return -(-self.panels * shares // programs) * (panel + rest / shares)

    def worthwhile(self, programs: int) -> bool:
        """Whether the panel fits, is read no longer than its weights, and half of the programs have one."""
        fits = self.side in LEAST and self.rings().batch >= LEAST[self.side]
        return fits and self.most_shares > 0 and 2 * self.panels * self.most_shares >= programs
