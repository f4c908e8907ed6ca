"""A state whose cut weights, and what the optimiser holds of them, are packed live blocks for a phase.

What a packed layer's dead weights held is dropped: they are 0 when the state is whole again. `execution`
packs only where nothing reads them before a masked run has set them to 0 as well, or where nothing ever
does.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from sparsity.kernels.blocks import pack
from sparsity.kernels.layout import Layout, from_mask
from sparsity.kernels.storage import spread_blocks
from sparsity.train.moments import map_owned
from sparsity.train.site import Site
from sparsity.train.state import TrainState, trained
from sparsity.units.partition import Tree, Units, leaves, path_of, replaced


class Way(NamedTuple):
    """How a layer is multiplied by its live blocks; static, so that it is part of a program's key.

    group: its name, the kernel's path. block: (rows, cols). capacity: live blocks, the plan's count.
    packed: whether the weight and its moments are kept as live blocks; else they stay dense.
    path:   of its products, as `block_sparse_matmul` takes it.
    """

    group: str
    site: Site
    block: tuple[int, int]
    capacity: int
    packed: bool
    path: str = "auto"


class Ways(NamedTuple):
    """The layers of a phase that are multiplied by live blocks; none where the phase is run masked."""

    layers: tuple[Way, ...] = ()

    def __str__(self) -> str:
        kinds = {way.packed: "packed" if way.packed else "sparse" for way in self.layers}
        return "-and-".join(kinds[k] for k in sorted(kinds)) or "masked"


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("state", "layouts"), meta_fields=("ways",)
)
@dataclasses.dataclass(frozen=True)
class Engaged:
    """state: with the packed layers' leaves as (capacity, rows, cols). layouts: by group."""

    state: TrainState
    layouts: Mapping[str, Layout]
    ways: Ways

    @property
    def step(self) -> jax.Array:
        """Steps done."""
        return self.state.step


def engage(state: TrainState, masks: Units, ways: Ways) -> Engaged:
    """The state on the layouts of its masks; pure, and so is `release`."""
    layouts = {
        way.group: from_mask(masks[way.group], way.site.matrix, way.block, way.capacity)
        for way in ways.layers
    }

    def packed(way: Way, leaf: jax.Array) -> jax.Array:
        layout = layouts[way.group]
        return pack(leaf.reshape(layout.shape), layout)

    return Engaged(_changed(state, ways, packed), layouts, ways)


def release(engaged: Engaged) -> TrainState:
    """The state that was engaged, as it has become, in dense storage."""
    return _changed(engaged.state, engaged.ways, functools.partial(_spread, engaged.layouts))


def whole(engaged: Engaged, params: Tree) -> Tree:
    """Parameters in dense storage, differentiable; `params` has the packed layers' as live blocks."""
    found = leaves(params)
    packed = [way for way in engaged.ways.layers if way.packed]
    wide = {way.group: _spread(engaged.layouts, way, found[way.group]) for way in packed}
    return replaced(params, wide)


def _spread(layouts: Mapping[str, Layout], way: Way, leaf: jax.Array) -> jax.Array:
    return spread_blocks(leaf, layouts[way.group]).reshape(way.site.shape)


def _changed(state: TrainState, ways: Ways, change: Callable[[Way, jax.Array], jax.Array]):
    """The state with the packed layers' weights, and what the optimiser holds of them, changed."""
    packed = {f"params/{way.group}": way for way in ways.layers if way.packed}

    def visit(keys: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        way = packed.get(path_of(keys))
        return change(way, leaf) if way else leaf

    tree = trained(state.wrapped)
    params = jax.tree_util.tree_map_with_path(visit, tree)["params"]
    opt = map_owned(visit, tree, state.opt)
    return state._replace(wrapped=state.wrapped._replace(params=params), opt=opt)
