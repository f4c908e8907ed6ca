"""Which weights an array of a traced network is made of."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

# A weight is {path: share of the array's entries}; a concatenation has several paths. An origin is
# None for an array that depends on the inputs (an activation), else the weights that it is made of
# alone: () for a constant, several where neither of those multiplied together outweighs the other.
Weight = Mapping[str, Fraction]
Origin = tuple[Weight, ...] | None
CONSTANT: Origin = ()


def merged(origins: Sequence[Origin], entries: Mapping[str, int]) -> Origin:
    """Of an elementwise result: an activation if an operand is one, else the largest weight.

    entries: path -> entries of that weight, by which one outweighs another.
    """
    if any(origin is None for origin in origins):
        return None
    weights: dict[frozenset[str], Weight] = {}
    for origin in origins:
        for weight in origin or ():
            weights.setdefault(frozenset(weight), weight)
    most = max((_size(paths, entries) for paths in weights), default=0)
    return tuple(w for paths, w in weights.items() if _size(paths, entries) == most)


def joined(origins: Sequence[Origin], sizes: Sequence[int], entries: Mapping[str, int]) -> Origin:
    """Of a concatenation: each weight has the share that it brings, constants bring none.

    sizes: how many entries each operand has.
    """
    if any(origin is None or len(origin) > 1 for origin in origins):
        return merged(origins, entries)
    total = sum(size for origin, size in zip(origins, sizes, strict=True) if origin)
    shares: defaultdict[str, Fraction] = defaultdict(Fraction)
    for origin, size in zip(origins, sizes, strict=True):
        for path, share in origin[0].items() if origin else ():
            shares[path] += share * Fraction(size, total)
    return (dict(shares),) if shares else CONSTANT


def _size(paths: Iterable[str], entries: Mapping[str, int]) -> int:
    return sum(entries[path] for path in paths)
