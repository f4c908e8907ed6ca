"""What a method applies, on an engaged state: hooks that multiply live blocks, and masks for the rest."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sparsity.contract import Applied, Context
from sparsity.kernels.layout import Layout
from sparsity.kernels.storage import live_blocks
from sparsity.train.engaged import Engaged
from sparsity.train.site import hook
from sparsity.units.partition import Partition, Tree, Units, scale, sealed


def on_live_blocks(
    partition: Partition,
    engaged: Engaged,
    applied: Applied,
    masks: Units,
    context: Context,
    mesh: Mesh | None,
) -> Applied:
    """`applied`, which masks and multipliers were left out of, as the model is run with it."""
    hooks = {
        way.site.module: hook(
            way.site,
            engaged.layouts[way.group],
            _live(applied.scales.get(way.group), engaged.layouts[way.group]),
            mesh,
            way.path,
        )
        for way in engaged.ways.layers
    }
    done = {way.group for way in engaged.ways.layers}
    rest = {name: group for name, group in partition.items() if name not in done}
    return Applied(_spread(rest, applied, masks, context), hooks)


def _live(numbers: jax.Array | None, layout: Layout) -> jax.Array | None:
    """(capacity,): the numbers of live units (R, C), which are blocks of one entry."""
    if numbers is None:
        return None
    units = dataclasses.replace(layout, shape=layout.grid, block=(1, 1))
    return live_blocks(numbers, units)[:, 0, 0]


def _spread(rest: Partition, applied: Applied, masks: Units, context: Context) -> Tree:
    """The parameters with the other layers' masks and multipliers in them, as a method puts them there."""
    soft = {name: _masked(masks, applied.scales, name) for name in rest if name in applied.scales}
    hard = {name: masks[name] for name in rest if name in masks and name not in soft}
    params = scale(rest, soft, applied.params)
    return (sealed if context.zeroed else scale)(rest, hard, params)


def _masked(masks: Units, scales: Mapping[str, jax.Array], name: str) -> jax.Array:
    if name not in masks:
        return scales[name]
    return jnp.where(masks[name], scales[name], 0.0)
