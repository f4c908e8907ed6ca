"""What the TPU's kernels take of VMEM and SMEM, computed before anything is launched."""

from sparsity.kernels.layout import Layout, grid_of

LANES = 128
# Batch entries of a tile, the most that fit. dW writes a partial sum per tile, so that it wants wide ones.
TILES = (512, 256, LANES)
WIDE_TILES = (1024, *TILES)
# Bytes. Half of what the smallest VMEM holds (64 MiB on v7x; 128 on v5e and v6e); the compiler may take more
# for what a step holds between its operations.
VMEM_BUDGET = 32 * 2**20
VMEM_LIMIT = 48 * 2**20
# The indices of a kernel; the compiler refuses 1 MiB.
SMEM_BUDGET = 9 * 2**20 // 10


def deep(block: tuple[int, int]) -> int:
    """How many blocks a run holds, so that it is 128 weights deep."""
    return max(1, LANES // block[0])


def reach(layout: Layout, axis: int) -> int:
    """Entries along an axis of the weight, up to the end of the last block."""
    return layout.grid[axis] * layout.block[axis]


def fitting(
    shape: tuple[int, int],
    block: tuple[int, int],
    itemsize: int,
    tiles: tuple[int, ...],
    rows: int,
) -> int:
    """The widest tile whose buffers fit and that is no wider than the batch asks for."""
    wanted = max(LANES, -(-rows // LANES) * LANES)
    fit = (t for t in tiles if t <= wanted and vmem(shape, block, itemsize, t) <= VMEM_BUDGET)
    return next(fit, LANES)


def vmem(shape: tuple[int, int], block: tuple[int, int], itemsize: int, tile: int) -> int:
    """Bytes of VMEM that the larger of the two kernels holds; what the pipeline moves is held twice."""
    features, (_, cols) = grid_of(shape, block)[0] * block[0], block
    depth = deep(block) * block[0]
    moved = features * tile * itemsize + cols * tile * itemsize + cols * depth * 4
    bias = cols * LANES * 4
    kept = cols * tile * 4 + depth * tile * itemsize
    return 2 * (moved + bias) + kept


def smem(shape: tuple[int, int], block: tuple[int, int], capacity: int) -> int:
    """Bytes of the prefetched indices: three per run, one per block of a run."""
    size = deep(block)
    runs = grid_of(shape, block)[1] + capacity // size
    return 4 * runs * (3 + size)


def excess(shape: tuple[int, int], block: tuple[int, int], capacity: int, itemsize: int) -> str:
    """What does not fit even in the narrowest tile, in words; "" where all does."""
    if (bytes_ := vmem(shape, block, itemsize, LANES)) > VMEM_BUDGET:
        return (
            f"{LANES} batch entries of {shape[0]} features and the tiles of blocks of {block} take "
            f"{bytes_ / 2**20:.1f} MiB of VMEM, of which the TPU's kernels may use {VMEM_BUDGET >> 20}"
        )
    if (bytes_ := smem(shape, block, capacity)) > SMEM_BUDGET:
        return (
            f"the indices of {capacity} live blocks take {bytes_ / 2**20:.2f} MiB of SMEM, of which the "
            f"TPU's kernels may use {SMEM_BUDGET / 2**20:.2f}"
        )
    return ""
