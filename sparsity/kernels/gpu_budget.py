"""What the GPU's kernels take of shared memory, which says how many stages their rings have."""

from typing import NamedTuple

# Weights, or batch entries for the gradient, of a step.
DEPTH = 64
# Bytes that a block of threads may have on Hopper, less barriers and what the compiler keeps.
SHARED_MEMORY = 232_448 - 4_096
# Of bfloat16 and float16.
ITEMSIZE = 2


class Room(NamedTuple):
    """Stages of a ring, and bytes of shared memory with the tile of results beside it."""

    stages: int
    bytes: int


def of_product(tile: int, block: tuple[int, int], most: int) -> Room:
    """A ring of at most `most` stages that hold (tile, DEPTH) of x and (DEPTH, cols) of weights."""
    cols = block[1]
    return _room(tile * DEPTH + DEPTH * cols, tile * cols, most)


def of_gradient(deep: int, block: tuple[int, int], most: int) -> Room:
    """A ring of at most `most` stages that hold (DEPTH, deep) of x and (DEPTH, cols) of dy."""
    cols = block[1]
    return _room(DEPTH * deep + DEPTH * cols, deep * cols, most)


def _room(step: int, result: int, most: int) -> Room:
    """For steps and a tile of results of so many entries."""
    stages = min(most, (SHARED_MEMORY // ITEMSIZE - result) // step)
    return Room(stages, (stages * step + result) * ITEMSIZE)
