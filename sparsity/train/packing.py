"""A tree of arrays as few flat ones, and back, bit by bit.

Storing an array costs Orbax about 3 ms whatever its size, and an optimiser's state has hundreds of
small ones: those lie end to end, one array per dtype.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparsity.units.partition import leaves

SMALL = 2**20  # bytes

Tree = Any


class Leaf(NamedTuple):
    """A leaf's dtype by name, its shape, and the stored array that it lies in."""

    dtype: str
    shape: tuple[int, ...]
    place: str

    @property
    def size(self) -> int:
        """Entries."""
        return math.prod(self.shape)


def describe(tree: Tree) -> dict[str, Leaf]:
    """Each leaf by its path. ValueError for one that does not hold numbers or bools."""
    found = leaves(tree)
    if len(found) != len(jax.tree.leaves(tree)):
        raise ValueError("two leaves of the tree have the same path: a key holds '/'")
    return {path: _leaf(str(i), path, leaf) for i, (path, leaf) in enumerate(found.items())}


def differences(wanted: Mapping[str, Leaf], found: Mapping[str, Leaf]) -> list[str]:
    """A line for each path whose dtype or shape is not the wanted one."""

    def said(leaf: Leaf | None) -> str:
        return f"{leaf.dtype}{list(leaf.shape)}" if leaf else "nothing"

    pairs = {path: (wanted.get(path), found.get(path)) for path in (*wanted, *found)}
    said_of = {path: (said(w), said(f)) for path, (w, f) in pairs.items()}
    return [f"{path}: expected {w}, found {f}" for path, (w, f) in said_of.items() if w != f]


def pack(tree: Tree, described: Mapping[str, Leaf]) -> dict[str, Any]:
    """The arrays to store, by place; none of them is empty, which Orbax would refuse."""
    found, ends = leaves(tree), _members(described)
    small = jax.device_get({p: found[p] for members in ends.values() for p in members})
    packs = {
        place: np.concatenate([np.ravel(small[path]) for path in members])
        for place, members in ends.items()
    }
    alone = {leaf.place: found[p] for p, leaf in described.items() if leaf.place not in packs}
    return {place: array for place, array in {**packs, **alone}.items() if array.size}


def stored_as(described: Mapping[str, Leaf], like: Tree) -> dict[str, Any]:
    """What to load, by place: abstract arrays with the shardings of `like`, or numpy's."""
    wanted, packs = leaves(like), _members(described)
    load: dict[str, Any] = {
        place: np.empty(sum(described[path].size for path in members), jnp.dtype(place))
        for place, members in packs.items()
    }
    for path, leaf in described.items():
        if leaf.place not in packs:
            load[leaf.place] = _abstract(leaf, _pinned(wanted[path]))
    return {place: array for place, array in load.items() if array.size}


def unpack(described: Mapping[str, Leaf], loaded: Mapping[str, Any], like: Tree) -> Tree:
    """The tree of the loaded arrays, each leaf as it is in `like` (jax, numpy or a number)."""
    values: dict[str, Any] = {p: loaded.get(leaf.place) for p, leaf in described.items()}
    for place, members in _members(described).items():
        sizes = [described[path].size for path in members]
        whole = loaded.get(place, np.empty(0, jnp.dtype(place)))
        pieces = np.split(whole, list(itertools.accumulate(sizes))[:-1])
        values |= {p: x.reshape(described[p].shape) for p, x in zip(members, pieces, strict=True)}
    restored = [_like(leaf, values[path]) for path, leaf in leaves(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), restored)


def _leaf(number: str, path: str, leaf: Any) -> Leaf:
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        raise ValueError(f"{path!r} is a typed random key: save its jax.random.key_data instead")
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
        raise ValueError(f"{path!r} is a {type(leaf).__name__}: expected an array of numbers")
    dtype, shape = array.dtype.name, tuple(array.shape)
    whole = getattr(array, "is_fully_replicated", True)
    small = math.prod(shape) * array.dtype.itemsize < SMALL
    return Leaf(dtype, shape, dtype if whole and small else number)


def _members(described: Mapping[str, Leaf]) -> dict[str, list[str]]:
    """The paths of the leaves that lie in each pack, in order; a pack's place is its dtype."""
    members: dict[str, list[str]] = {}
    for path, leaf in described.items():
        if leaf.place == leaf.dtype:
            members.setdefault(leaf.place, []).append(path)
    return members


def _pinned(leaf: Any) -> Any:
    """The sharding that an array like `leaf` must have; None where it is free to move.

    What jax may move at will (an uncommitted array) must stay so: pinned to one device, it could not
    meet arrays that lie on several.
    """
    free = isinstance(leaf, jax.Array) and not leaf.committed
    return None if free else getattr(leaf, "sharding", None)


def _abstract(leaf: Leaf, sharding: Any) -> Any:
    if sharding is None:
        return np.empty(leaf.shape, jnp.dtype(leaf.dtype))
    return jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(leaf.dtype), sharding=sharding)


def _like(leaf: Any, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.copy()  # a view would keep the whole pack alive
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        pinned = _pinned(leaf)
        return jnp.array(value) if pinned is None else _put(value, pinned)
    if isinstance(leaf, np.ndarray):
        return value
    return value[()] if isinstance(leaf, np.generic) else value.item()


def _put(value: Any, sharding: Any) -> jax.Array:
    """The array on its devices; where other processes have some of them, without a word to these."""
    if sharding.is_fully_addressable or isinstance(value, jax.Array):
        return jax.device_put(value, sharding)
    whole = np.asarray(value)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
