"""What the GPU's kernels take of shared memory, which says how many stages their rings have."""

# Weights, or batch entries for the gradient, of a step.
DEPTH = 64
# Bytes that a block of threads may have on Hopper, less barriers and what the compiler keeps.
SHARED_MEMORY = 232_448 - 4_096
# Of bfloat16 and float16.
ITEMSIZE = 2


def stages_of_product(tile: int, block: tuple[int, int], most: int) -> int:
    """Stages of a ring whose steps hold (tile, DEPTH) of x and (DEPTH, cols) of weights."""
    cols = block[1]
    return _stages(tile * DEPTH + DEPTH * cols, tile * cols, most)


def stages_of_gradient(deep: int, block: tuple[int, int], most: int) -> int:
    """Stages of a ring whose steps hold (DEPTH, deep) of x and (DEPTH, cols) of dy."""
    cols = block[1]
    return _stages(DEPTH * deep + DEPTH * cols, deep * cols, most)


def _stages(step: int, result: int, most: int) -> int:
    """As many as fit beside the tile of results; numbers of entries."""
    return min(most, (SHARED_MEMORY // ITEMSIZE - result) // step)
