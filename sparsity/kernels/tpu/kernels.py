"""The TPU's kernels: a step of the grid multiplies one run of blocks, 128 weights deep whatever the block.

A panel of x (K, tile) stays in VMEM while all runs pass, so that x is read from HBM once; runs and the next
panel are fetched while a step computes, by Pallas's pipeline. The indices are prefetched into SMEM. Convolutions
(`lines`) have a panel per line that a window reads.
Products of float32 take the precision that jax.default_matmul_precision says, as dense ones do.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.manual import vary_alike, varying
from sparsity.kernels.tpu.runs import Runs


class Walk(NamedTuple):
    """How a kernel goes through x, which lies (features, tiles * tile); all static but `at`.

    at:    int32 (S * size,), for each run's blocks: block of rows of x * lines + line.
    lines: how many there are; one lies `apart` tiles behind the other.
    tiles: of the result, each `tile` wide.
    limit: bytes of VMEM.
    """

    at: jax.Array
    block: tuple[int, int]
    tile: int
    tiles: int
    lines: int
    apart: int
    limit: int

    def panels(self, features: int) -> list[pl.BlockSpec]:
        """A panel of x per line."""
        at = lambda line: lambda m, s, *_: (0, m + line * self.apart)
        return [pl.BlockSpec((features, self.tile), at(line)) for line in range(self.lines)]


def columns(
    runs: Runs, walk: Walk, x: jax.Array, weights: jax.Array, bias: jax.Array, activation: str
) -> jax.Array:
    """activation(W.T @ x + bias): weights the runs' transposes, bias (C * cols, 1)."""
    (_, cols), tile = walk.block, walk.tile
    slots, depth = weights.shape[0], weights.shape[2]

    def body(col, length, source, at, *refs):
        *panels, w_ref, bias_ref, y_ref, total, gathered = refs
        slot = pl.program_id(1)
        before, after = jnp.maximum(slot - 1, 0), jnp.minimum(slot + 1, slots - 1)

        @pl.when((slot == 0) | (col[before] != col[slot]))
        def _():
            total[...] = jnp.zeros_like(total)

        @pl.when(length[slot] > 0)
        def _():
            seen = _gather(walk, panels, gathered, at, slot)
            total[...] += jnp.dot(w_ref[0], seen, preferred_element_type=jnp.float32)

        @pl.when((slot == slots - 1) | (col[after] != col[slot]))
        def _():
            y_ref[...] = ACTIVATIONS[activation](total[...] + bias_ref[...]).astype(y_ref.dtype)

    return _call(
        body,
        runs,
        walk,
        (*[x] * walk.lines, weights, bias),
        slots,
        in_specs=[
            *walk.panels(x.shape[0]),
            pl.BlockSpec((1, cols, depth), lambda m, s, col, length, source, at: (source[s], 0, 0)),
            pl.BlockSpec((cols, 1), lambda m, s, col, *_: (col[s], 0)),
        ],
        out_specs=pl.BlockSpec((cols, tile), lambda m, s, col, *_: (col[s], m)),
        scratch_shapes=[pltpu.VMEM((cols, tile), jnp.float32), pltpu.VMEM((depth, tile), x.dtype)],
        out=((bias.shape[0], walk.tiles * tile), x.dtype),
        name="block_sparse_product",
    )


def gradient(runs: Runs, walk: Walk, x: jax.Array, dy: jax.Array) -> jax.Array:
    """float32 (tiles, S, cols, depth): each tile's part of the runs' gradients, x and dy feature-major.

    What spare runs and those of empty columns hold is not defined.
    """
    (rows, cols), tile = walk.block, walk.tile
    slots, size = runs.place.shape

    def body(col, length, source, at, *refs):
        *panels, dy_ref, dw_ref, gathered = refs
        slot = pl.program_id(1)

        @pl.when(length[slot] > 0)
        def _():
            seen = _gather(walk, panels, gathered, at, slot)
            over_batch = (((1,), (1,)), ((), ()))
            dw_ref[0, 0] = lax.dot_general(
                dy_ref[...], seen, over_batch, preferred_element_type=jnp.float32
            )

    return _call(
        body,
        runs,
        walk,
        (*[x] * walk.lines, dy),
        slots,
        in_specs=[
            *walk.panels(x.shape[0]),
            pl.BlockSpec((cols, tile), lambda m, s, col, *_: (col[s], m)),
        ],
        out_specs=pl.BlockSpec(
            (1, 1, cols, size * rows), lambda m, s, col, length, source, at: (m, source[s], 0, 0)
        ),
        scratch_shapes=[pltpu.VMEM((size * rows, tile), x.dtype)],
        out=((walk.tiles, slots, cols, size * rows), jnp.float32),
        name="block_sparse_gradient",
    )


def _gather(walk: Walk, panels: list[Any], gathered: Any, at: Any, slot: jax.Array) -> jax.Array:
    """The run's rows of the panels, one block below the other: (depth, tile)."""
    rows, size = walk.block[0], gathered.shape[0] // walk.block[0]
    for i in range(size):
        place = at[slot * size + i]
        block = pl.ds(pl.multiple_of(lax.div(place, walk.lines) * rows, rows), rows)
        if size == walk.lines == 1:
            return panels[0][block, :]
        here = slice(i * rows, (i + 1) * rows)
        if walk.lines == 1:
            gathered[here, :] = panels[0][block, :]
            continue
        for line, panel in enumerate(panels):
            pl.when(lax.rem(place, walk.lines) == line)(
                functools.partial(_take, gathered, here, panel, block)
            )
    return gathered[...]


def _take(to: Any, here: Any, panel: Any, block: Any) -> None:
    to[here, :] = panel[block, :]


def _call(
    body: Callable[..., None],
    runs: Runs,
    walk: Walk,
    args: tuple[jax.Array, ...],
    slots: int,
    *,
    out: tuple[tuple[int, ...], Any],
    name: str,
    **specs: Any,
) -> jax.Array:
    """The kernel over (tiles, runs), with the runs' tables prefetched; the runs in order, tiles in any."""
    tables, grid = (runs.col, runs.length, runs.source, walk.at), (walk.tiles, slots)
    tables, args = vary_alike((tables, args))
    # Inside shard_map the result has to say over which axes of the mesh it varies.
    aval: Any = jax.typeof(args[0])
    varies = {"manual_axis_type": aval.manual_axis_type} if varying(args[0]) else {}
    shape = jax.ShapeDtypeStruct(*out, **varies)
    call = pl.pallas_call(
        body,
        grid_spec=pltpu.PrefetchScalarGridSpec(num_scalar_prefetch=len(tables), grid=grid, **specs),
        out_shape=shape,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=walk.limit
        ),
        name=name,
    )
    return call(*tables, *args)
