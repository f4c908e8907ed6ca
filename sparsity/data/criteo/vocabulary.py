"""From the hashes of a category to the rows of the embedding table.

Each category has rows of its own, one behind the other: 0 for an empty field, 1 for what is seldom (with
a vocabulary) and then one for each value that is kept, or for each bucket (with hashing).
"""

from collections.abc import Iterable, Sequence

import numpy as np

EMPTY, SELDOM, FIRST = 0, 1, 2


def frequent(parts: Iterable[np.ndarray], floor: int) -> np.ndarray:
    """The values that come at least `floor` times in all parts together: uint32 (k,), ascending."""
    values = np.concatenate([np.zeros(0, np.uint32), *parts])
    values.sort()
    first = np.flatnonzero(values[1:] != values[:-1]) + 1
    first = np.concatenate([np.zeros(min(1, len(values)), np.int64), first])
    counts = np.diff(first, append=len(values))
    return values[first[counts >= floor]]


def looked_up(values: np.ndarray, there: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Rows int32 (n,) within the category: FIRST + place in `kept`, or SELDOM, or EMPTY."""
    if not len(kept):
        return np.where(there, SELDOM, EMPTY).astype(np.int32)
    # Sorted first: neighbouring needles share their path through the haystack, and the cache.
    order = np.argsort(values)
    place = np.empty(len(values), np.int64)
    place[order] = np.searchsorted(kept, values[order])
    place = np.minimum(place, len(kept) - 1)
    found = np.where(kept[place] == values, place + FIRST, SELDOM)
    return np.where(there, found, EMPTY).astype(np.int32)


def hashed(values: np.ndarray, there: np.ndarray, buckets: int) -> np.ndarray:
    """Rows int32 (n,) within the category: FIRST + bucket, or EMPTY; SELDOM stays unused."""
    mixed = values * np.uint32(0x9E3779B1)
    mixed ^= mixed >> np.uint32(15)
    return np.where(there, mixed % np.uint32(buckets) + FIRST, EMPTY).astype(np.int32)


def offsets(sizes: Sequence[int]) -> np.ndarray:
    """Where each category's rows begin in the one table, and at the end how many there are: int64."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
