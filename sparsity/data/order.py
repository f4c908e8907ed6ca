"""Which images a step sees: a function of (seed, step) and nothing else.

An epoch is n // batch steps through a shuffled order; the remainder of n is dropped, other images
each epoch. Nothing is carried from step to step, so a run that resumes at any step, with any
number of processes, sees what the run that was never stopped would have seen.
"""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=8)
def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The shuffled 0 .. n - 1 of an epoch: (n,) int32, not writeable.

    It sorts the raw bits of PCG64: NumPy keeps those the same in all versions, but not what its
    `permutation` makes of them. The last few orders are kept.

    Raises:
      ValueError: for a negative seed or epoch.
    """
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed and epoch are at least 0, given were {seed} and {epoch}")
    bits = np.random.PCG64([seed, epoch]).random_raw(n)
    order = np.argsort(bits, kind="stable").astype(np.int32)
    order.flags.writeable = False
    return order


def steps_per_epoch(n: int, batch: int) -> int:
    """Full batches in n images.

    Raises:
      ValueError: when there is none.
    """
    if not 1 <= batch <= n:
        raise ValueError(f"a batch of {batch} cannot be drawn from {n} images")
    return n // batch


def indices(seed: int, step: int, n: int, batch: int) -> np.ndarray:
    """The images of the global batch at a step: (batch,) int32.

    Raises:
      ValueError: for a negative seed or step, or a batch that n images do not fill.
    """
    epoch, place = divmod(step, steps_per_epoch(n, batch))
    return epoch_order(seed, epoch, n)[place * batch : (place + 1) * batch]


def eval_batches(n: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """All images in order, in batches of one size: (k, batch) int32 indices, float32 weights.

    Each image stands once with weight 1. The last batch is filled up with image 0 at weight 0, so
    that sums of weighted results count every image exactly once.

    Raises:
      ValueError: when there are no images, or the batch is not positive.
    """
    if n < 1 or batch < 1:
        raise ValueError(f"{n} images in batches of {batch}: both must be at least 1")
    count = -(-n // batch)
    flat = np.arange(count * batch, dtype=np.int32)
    inside = flat < n
    rows = np.where(inside, flat, 0).reshape(count, batch)
    return rows, inside.astype(np.float32).reshape(count, batch)
