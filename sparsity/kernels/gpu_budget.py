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


def of_product(tile: int, deep: int, cols: int, most: int) -> Room:
    """A ring of at most `most` stages that hold (tile, deep) of x and (deep, cols) of weights."""
    return _room(tile * deep + deep * cols, tile * cols, most)


def of_gradient(tall: int, deep: int, cols: int, most: int) -> Room:
    """A ring of at most `most` stages that hold (deep, tall) of x and (deep, cols) of dy."""
    # Sums of a part of the batch are float32.
    return _room(deep * tall + deep * cols, 2 * tall * cols, most)


def of_panel(panel: int, own: int, step: int, groups: int, most: int) -> Room:
    """Rings of at most `most` stages beside a panel, one for each group, in bytes.

    own: of a group's results. step: of a stage.
    """
    stages = min(most, (SHARED_MEMORY - panel - groups * own) // (groups * step))
    return Room(stages, panel + groups * (own + stages * step))


def _room(step: int, result: int, most: int) -> Room:
    """For steps and a tile of results of so many entries."""
    stages = min(most, (SHARED_MEMORY // ITEMSIZE - result) // step)
    return Room(stages, (stages * step + result) * ITEMSIZE)
