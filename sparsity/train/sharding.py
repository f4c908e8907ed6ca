"""Where the numbers of a run lie on the devices that share it: a mesh of three axes, and rules over paths.

    data    shares the rows of a batch; weights lie whole on each of its devices
    fsdp    shares the rows of a batch too, and weights with all that is remembered of them: a step gathers a
            weight where it is used, and scatters its gradient
    model   shares the columns or rows of weights and whatever is computed from them, and no rows of a batch

Numbers per unit lie as the blocks do that they stand for where shards end where blocks end, else on every
device; so the choice of masks gathers no weight.
"""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sparsity.named import unknown
from sparsity.train.moments import map_owned
from sparsity.train.state import TrainState, trained
from sparsity.units.blocks import refuse_unmatched
from sparsity.units.partition import Partition, View, leaves, path_of, unit_sharding

AXES = DATA, FSDP, MODEL = "data", "fsdp", "model"
ROWS = PartitionSpec((DATA, FSDP))  # of a batch
# Entries of a leaf that lies whole on every device: to send it costs more than to keep it.
SMALL = 1024
# Which axis "model" shares out by itself, from the last, where the first of these patterns matches. Heads are
# computed by themselves. A perceptron's inner width is cut on both of its sides, so that a pair of layers sends
# one array; of cut outputs alone every layer would send one. Patches are whole, and so is what layers add to
# them and their norms read. Else outputs.
CUTS = (
    ("*embed/kernel", None),
    ("*positions", None),
    ("*query/kernel", -2),
    ("*key/kernel", -2),
    ("*value/kernel", -2),
    ("*/out/kernel", -3),
    ("*/mlp_out/kernel", -2),
    ("*", -1),
)

Tree = Any


class Rule(NamedTuple):
    """How the leaves whose path matches `pattern` lie; the first rule that matches wins.

    pattern: glob on the path ("*" also spans "/"), for example "params/*/kernel".
    axes:    per axis of the leaf, the axis of the mesh that shares it, or None.
    """

    pattern: str
    axes: tuple[str | None, ...]


class Layout(NamedTuple):
    """mesh: of AXES. partition: of the run. params: path of each parameter -> how it lies."""

    mesh: Mesh
    partition: Partition
    params: Mapping[str, NamedSharding]


def layout(mesh: Mesh, partition: Partition, params: Tree, rules: Sequence[Rule] = ()) -> Layout:
    """How the parameters (arrays or shapes) lie: as the first rule says, else by what divides.

    By itself "model" takes the axis of CUTS and "fsdp" another: of those that divide, first one whose shards
    end where blocks end, then the longest. What does not divide, every vector and what is SMALL lies on all
    devices. Raises ValueError for a rule that matches nothing, names no axis of the mesh or one twice,
    has not one entry per axis of a leaf, or does not divide it.
    """
    found = leaves(params)
    for rule in rules:
        _check(rule, found)
    views = {v.path: v for group in partition.values() for v in group.gated}
    return Layout(
        mesh,
        partition,
        {
            path: _lying(mesh, path, tuple(leaf.shape), views.get(path), rules)
            for path, leaf in found.items()
        },
    )


def shardings(lies: Layout, state: TrainState) -> TrainState:
    """The sharding of each leaf of a run's state (arrays or shapes), as a tree of its structure.

    What the optimiser remembers of a weight lies as the weight does, gates and masks as its units; all
    else (batch statistics, counts, keys, metrics) is on every device.
    """
    weights = leaves(state.wrapped.params)
    params = _by_path(lies, state.wrapped.params)
    gates = _of_units(lies, weights, state.wrapped.gates)
    memory = _of_units(lies, weights, state.wrapped.memory)
    everywhere = NamedSharding(lies.mesh, PartitionSpec())
    rest = jax.tree.map(lambda leaf: everywhere, state)
    owners = leaves({"params": params, "gates": gates})
    shapes = leaves(trained(state.wrapped))

    def visit(keys, leaf):
        path = path_of(keys)
        return owners[path] if leaf.shape == shapes[path].shape else leaf

    owned = map_owned(visit, trained(state.wrapped), state.opt)
    opt = jax.tree.map(lambda s: s if isinstance(s, NamedSharding) else everywhere, owned)
    return rest._replace(
        wrapped=state.wrapped._replace(params=params, gates=gates, memory=memory), opt=opt
    )


def held(lies: Layout, state: TrainState) -> TrainState:
    """The state, kept where it is to lie; called inside a jitted program."""
    return jax.lax.with_sharding_constraint(state, shardings(lies, state))


def _check(rule: Rule, found: Mapping[str, Any]) -> None:
    refuse_unmatched(f"the rule {rule.pattern!r} of mesh.rules", rule.pattern, found)
    named = [axis for axis in rule.axes if axis is not None]
    for axis in named:
        if axis not in AXES:
            raise unknown(f"axis of the mesh (in the rule {rule.pattern!r})", axis, AXES)
    if len({*named}) < len(named):
        raise ValueError(
            f"the rule {rule.pattern!r} of mesh.rules names an axis twice: {rule.axes}"
        )


def _lying(
    mesh: Mesh, path: str, shape: tuple[int, ...], view: View | None, rules: Sequence[Rule]
) -> NamedSharding:
    for rule in rules:
        if fnmatch.fnmatchcase(path, rule.pattern):
            return NamedSharding(mesh, _asked(mesh, path, shape, rule))
    return NamedSharding(mesh, _by_itself(mesh, path, shape, view))


def _asked(mesh: Mesh, path: str, shape: tuple[int, ...], rule: Rule) -> PartitionSpec:
    if len(rule.axes) != len(shape):
        raise ValueError(
            f"the rule {rule.pattern!r} of mesh.rules has {len(rule.axes)} axes, but {path} is {shape}"
        )
    for size, axis in zip(shape, rule.axes, strict=True):
        if axis is not None and size % mesh.shape[axis]:
            raise ValueError(
                f"the rule {rule.pattern!r} of mesh.rules shares out an axis of {size} of {path} {shape} "
                f"over {axis}, which has {mesh.shape[axis]} devices and does not divide it"
            )
    return PartitionSpec(*rule.axes)


def _by_itself(mesh: Mesh, path: str, shape: tuple[int, ...], view: View | None) -> PartitionSpec:
    if len(shape) < 2 or math.prod(shape) < SMALL:
        return PartitionSpec()
    axes: list[str | None] = [None] * len(shape)
    cut = next(axis for pattern, axis in CUTS if fnmatch.fnmatchcase(path, pattern))
    if cut and -cut <= len(shape) and _divides(mesh, MODEL, shape[cut]):
        axes[cut] = MODEL
    fits = [i for i, n in enumerate(shape) if axes[i] is None and _divides(mesh, FSDP, n)]
    if fits:
        axes[max(fits, key=lambda i: (_whole(view, i, mesh.shape[FSDP]), shape[i]))] = FSDP
    return PartitionSpec(*axes)


def _divides(mesh: Mesh, axis: str, size: int) -> bool:
    """Whether there is something to share out, and it comes out even."""
    return mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0


def _whole(view: View | None, axis: int, devices: int) -> bool:
    """Whether the shards of an axis end where blocks end."""
    if view is None:
        return True
    for run, entries in zip(view.axes, view.block, strict=True):
        if axis in run:
            # Merged axes are contiguous in a shard only where the slowest of them is shared out.
            shard = math.prod(view.shape[i] for i in run) // devices
            return axis == run[0] and shard % entries == 0
    return False


def _by_path(lies: Layout, params: Tree) -> Tree:
    return jax.tree_util.tree_map_with_path(lambda keys, leaf: lies.params[path_of(keys)], params)


def _of_units(lies: Layout, weights: Mapping[str, Any], tree: Tree) -> Tree:
    """Arrays of a group's grid, found by the end of their path, as its units; all else on every device."""

    def each(keys, leaf):
        path = path_of(keys)
        for name, group in lies.partition.items():
            if f"/{path}".endswith(f"/{name}") and leaf.shape == group.grid:
                gated = group.gated[0].path
                return unit_sharding(lies.params[gated], weights[gated], group)
        return NamedSharding(lies.mesh, PartitionSpec())

    return jax.tree_util.tree_map_with_path(each, tree)
