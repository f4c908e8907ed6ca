"""The products that the TPU's kernels make of x and dy laid (features, rows), with packed blocks in and out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from sparsity.kernels.layout import Layout
from sparsity.kernels.tpu import kernels
from sparsity.kernels.tpu.budget import deep, reach
from sparsity.kernels.tpu.kernels import Walk
from sparsity.kernels.tpu.runs import Runs, from_runs, runs_of, to_runs
from sparsity.kernels.tpu.sources import Sources


class Tiles(NamedTuple):
    """Static: so many tiles of rows, each so wide, within a limit of bytes of VMEM."""

    tile: int
    count: int
    limit: int


def product(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    sources: Sources,
    tiles: Tiles,
    bias: jax.Array | None,
    activation: str,
) -> jax.Array:
    """activation(W.T @ x + bias), (N, rows), where each block finds its rows of x by `sources`."""
    runs = runs_of(layout, deep(layout.block))
    bias = jnp.zeros(layout.shape[1], jnp.float32) if bias is None else bias.astype(jnp.float32)
    column = jnp.pad(bias, (0, reach(layout, 1) - bias.size))[:, None]
    weights = to_runs(packed, runs).swapaxes(1, 2)
    walk = _walk(runs, layout, sources, tiles)
    return kernels.columns(runs, walk, x, weights, column, activation)[: layout.shape[1]]


def gradient(
    x: jax.Array, dy: jax.Array, layout: Layout, sources: Sources, tiles: Tiles
) -> jax.Array:
    """x @ dy.T at live blocks: (capacity, rows, cols), 0 in padding."""
    runs = runs_of(layout, deep(layout.block))
    partial = kernels.gradient(runs, _walk(runs, layout, sources, tiles), x, dy)
    held = jnp.sum(partial, 0).astype(x.dtype).swapaxes(1, 2)
    return from_runs(held, runs, layout)


def _walk(runs: Runs, layout: Layout, sources: Sources, tiles: Tiles) -> Walk:
    feature, shift = sources.of_runs(runs)
    tile, count, limit = tiles
    at = feature * sources.lines + (0 if sources.shift is None else shift)
    return Walk(at, layout.block, tile, count, sources.lines, sources.line // tile, limit)
