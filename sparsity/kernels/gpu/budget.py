"""What the GPU's kernels take of shared memory, which says how many stages their rings have."""

from typing import NamedTuple

# Bytes that a block of threads may have on Hopper, less barriers and what the compiler keeps.
SHARED_MEMORY = 232_448 - 4_096
# Of bfloat16 and float16.
ITEMSIZE = 2


class Room(NamedTuple):
    """Stages of a ring, and bytes of shared memory with the tile of results beside it."""

    stages: int
    bytes: int


class Rings(NamedTuple):
    """Blocks of a stage, and bytes of shared memory with the panel and the results."""

    batch: int
    bytes: int


def of_product(tile: int, deep: int, cols: int, most: int) -> Room:
    """A ring of at most `most` stages that hold (tile, deep) of x and (deep, cols) of weights."""
    return _room(tile * deep + deep * cols, tile * cols, most)


def of_gradient(tall: int, deep: int, cols: int, most: int) -> Room:
    """A ring of at most `most` stages that hold (deep, tall) of x and (deep, cols) of dy."""
    # Sums of a part of the batch are float32.
    return _room(deep * tall + deep * cols, 2 * tall * cols, most)


def of_panel(panel: int, own: int, block: int, ids: int, groups: int, stages: int) -> Rings:
    """A ring of so many stages for each group beside a panel and the groups' results, all sizes in bytes.

    own: of a group's results. block: of a block's weights. ids: of a stage's table, which has 4 for each block at least.
    """
    each = (SHARED_MEMORY - panel - groups * own) // (groups * stages) - ids
    batch = max(0, min(each // block, ids // 4))
    return Rings(batch, panel + groups * (own + stages * (batch * block + ids)))


def _room(step: int, result: int, most: int) -> Room:
    """For steps and a tile of results of so many entries."""
    stages = min(most, (SHARED_MEMORY // ITEMSIZE - result) // step)
    return Room(stages, (stages * step + result) * ITEMSIZE)
