"""Where units lie in parameters: the only module that knows both (`tiling` cuts the single leaf).

A parameter tree is any pytree of arrays (nested dicts, lists, NNX states, Equinox modules). A leaf is
named by its path, keys joined by "/". `pool` goes from parameters to units and `spread` from units to
parameters; they are adjoint: <spread(u), t> == <u, pool(t)>.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec, auto_axes

from sparsity.units.tiling import View, pooled, repeated, tiles

Units = dict[str, jax.Array]
Tree = Any


class Group(NamedTuple):
    """An array of units that are compared with each other.

    grid:    shape of the array of units.
    gated:   where a unit's multiplier goes, once.
    follows: what is cut with the unit and never multiplied.
    batch:   the first `batch` grid axes number independent groups (scanned layers, heads): selection,
             softmax and counts run per index.
    """

    grid: tuple[int, ...]
    gated: tuple[View, ...]
    follows: tuple[View, ...] = ()
    batch: int = 0

    @property
    def size(self) -> int:
        """Units per independent index."""
        return math.prod(self.grid[self.batch :])

    @property
    def indices(self) -> int:
        """Independent indices."""
        return math.prod(self.grid[: self.batch])


Partition = Mapping[str, Group]


def path_of(keys: tuple[Any, ...]) -> str:
    """The path of a leaf from jax's key entries, for example "params/conv1/kernel"."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def leaves(tree: Tree) -> dict[str, Any]:
    """Every leaf by its path. Raises ValueError where two leaves share one (a key that holds a "/")."""
    found: dict[str, Any] = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        path = path_of(keys)
        if path in found:
            raise ValueError(f"two leaves have the path {path!r}: rename a key that holds a '/'")
        found[path] = leaf
    return found


def replaced(tree: Tree, new: Mapping[str, Any]) -> Tree:
    """`tree` with the leaves named in `new` exchanged; the others are the same objects."""
    return jax.tree_util.tree_map_with_path(lambda keys, leaf: new.get(path_of(keys), leaf), tree)


def pool(
    partition: Partition, tree: Tree, reduce: Callable[..., jax.Array] = jnp.sum
) -> dict[str, jax.Array]:
    """One number per unit: `reduce` over the entries of the gated leaves, arrays of shape `grid`.

    reduce: jnp.sum (the adjoint of `spread`), or jnp.max for entries that are not negative; ragged
    units are padded with 0, the neutral element of both.
    """
    found = leaves(tree)
    join = jnp.add if reduce is jnp.sum else jnp.maximum
    units = {}
    for name, group in partition.items():
        parts = [_pool(found[view.path], view, group, reduce) for view in group.gated]
        total = parts[0]
        for part in parts[1:]:
            total = join(total, part)
        units[name] = total
    return units


def spread(
    partition: Partition, units: Mapping[str, jax.Array], like: Tree
) -> dict[str, jax.Array]:
    """Each gated leaf's path -> an array of the leaf's shape that holds its unit's number everywhere.

    Raises ValueError where a leaf is gated twice: its units' numbers would have to be multiplied.
    """
    found = leaves(like)
    wide: dict[str, jax.Array] = {}
    for name in partition:
        for view in partition[name].gated if name in units else ():
            if view.path in wide:
                raise ValueError(f"{view.path} is gated twice, the second time by {name!r}")
            wide[view.path] = _spread(units[name], view, found[view.path])
    return wide


def scale(partition: Partition, units: Mapping[str, jax.Array], tree: Tree) -> Tree:
    """`tree` with each gated entry times its unit's number; bool units mask: dead entries are +0."""
    found = leaves(tree)
    new = {}
    for path, factor in spread(partition, units, tree).items():
        leaf = found[path]
        masked = factor.dtype == jnp.bool_
        new[path] = jnp.where(factor, leaf, 0) if masked else leaf * factor.astype(leaf.dtype)
    return replaced(tree, new)


def sealed(partition: Partition, alive: Mapping[str, jax.Array], tree: Tree) -> Tree:
    """`tree` as it is, its dead entries without gradient: `scale` by a mask where they are 0 already.

    It spares a pass over the weights: what masks a gradient is compiled into whatever reads it.
    """
    found = leaves(tree)
    wide = spread(partition, alive, tree)
    return replaced(tree, {path: _sealed(found[path], mask) for path, mask in wide.items()})


@jax.custom_vjp
def _sealed(leaf: jax.Array, alive: jax.Array) -> jax.Array:
    return leaf


def _sealed_backwards(alive: jax.Array, gradient: jax.Array) -> tuple[jax.Array, None]:
    return jnp.where(alive, gradient, 0), None


_sealed.defvjp(lambda leaf, alive: (leaf, alive), _sealed_backwards)


def unit_sharding(weight: NamedSharding, leaf: Any, group: Group) -> NamedSharding:
    """How a group's numbers lie where its first gated leaf (an array or a shape) lies as `weight` says: with
    it along the axes that the grid divides, else on every device.
    """
    view = group.gated[0]
    spec = _grid_spec(weight, view, group, _held(weight, leaf, view))
    return NamedSharding(weight.mesh, spec)


def _pool(leaf: jax.Array, view: View, group: Group, reduce: Callable[..., jax.Array]) -> jax.Array:
    sharding = _explicit(leaf)
    if sharding is None:
        return _placed(pooled(leaf, view, reduce), view, group)
    # Under explicit axes a pooling reshape has no sharding rule: XLA plans it, and what it is to
    # leave is said here.
    held = _held(sharding, leaf, view)
    planned: Any = auto_axes(
        lambda x: _placed(pooled(x, view, reduce, held), view, group),
        out_sharding=NamedSharding(sharding.mesh, _grid_spec(sharding, view, group, held)),
    )
    return planned(leaf)


def _spread(units: jax.Array, view: View, leaf: jax.Array) -> jax.Array:
    sharding = _explicit(leaf)
    if sharding is None:
        return repeated(_taken(units, view), view, leaf.shape)
    held = _held(sharding, leaf, view)
    planned: Any = auto_axes(
        lambda u: repeated(_taken(u, view), view, leaf.shape, held), out_sharding=sharding
    )
    return planned(units)


def _placed(part: jax.Array, view: View, group: Group) -> jax.Array:
    """The view's units at their place in the group's grid, 0 elsewhere."""
    if part.shape == group.grid:
        return part
    start = view.start or (0,) * part.ndim
    edges = zip(start, part.shape, group.grid, strict=True)
    return jnp.pad(part, [(s, g - s - n) for s, n, g in edges])


def _taken(units: jax.Array, view: View) -> jax.Array:
    """The units of the group that the view covers."""
    covered = tiles(view)
    if units.shape == covered:
        return units
    start = view.start or (0,) * len(covered)
    return units[tuple(slice(s, s + n) for s, n in zip(start, covered, strict=True))]


def _explicit(leaf: jax.Array) -> Any:
    """The leaf's sharding where it lies on explicit mesh axes, else None."""
    sharding = getattr(jax.typeof(leaf), "sharding", None)
    types = getattr(getattr(sharding, "mesh", None), "axis_types", None) or ()
    return sharding if AxisType.Explicit in types else None


def _held(sharding: NamedSharding, leaf: jax.Array, view: View) -> dict[int, Any]:
    """The axes of the leaf that are sharded, with the mesh axes; none where it is read otherwise."""
    names = enumerate(sharding.spec) if leaf.shape == view.shape else ()
    return {axis: name for axis, name in names if name}


def _grid_spec(
    sharding: NamedSharding, view: View, group: Group, held: Mapping[int, Any]
) -> PartitionSpec:
    """The units' sharding: the weight's where the grid divides, else replicated."""
    if len(group.gated) > 1:  # views of other leaves are added: all alike
        return PartitionSpec()
    names = []
    for run, count in zip(view.axes, group.grid, strict=True):
        # Only the slowest axis of a run keeps its shards contiguous once the run is merged.
        name = held.get(run[0]) if run else None
        width = math.prod(sharding.mesh.shape[n] for n in _names(name))
        names.append(name if count % width == 0 else None)
    return PartitionSpec(*names)


def _names(name: Any) -> tuple[str, ...]:
    return () if name is None else name if isinstance(name, tuple) else (name,)
