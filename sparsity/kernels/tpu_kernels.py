"""The TPU's kernels: a step of the grid multiplies one run of blocks, 128 weights deep whatever the block.

A panel of x (K, tile) stays in VMEM while all runs pass, so that x is read from HBM once; runs and the next
panel are fetched while a step computes, by Pallas's pipeline. The indices are prefetched into SMEM.
Products of float32 take the precision that jax.default_matmul_precision says, as dense ones do.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.manual import vary_alike, varying
from sparsity.kernels.runs import Runs


def columns(
    runs: Runs,
    x: jax.Array,
    weights: jax.Array,
    bias: jax.Array,
    block: tuple[int, int],
    tile: int,
    activation: str,
    limit: int,
) -> jax.Array:
    """activation(W.T @ x + bias): x (R * rows, M), weights the runs' transposes, bias (C * cols, 1)."""
    rows, cols = block
    slots, depth = weights.shape[0], weights.shape[2]

    def body(col, length, source, at, x_ref, w_ref, bias_ref, y_ref, total, gathered):
        slot = pl.program_id(1)
        before, after = jnp.maximum(slot - 1, 0), jnp.minimum(slot + 1, slots - 1)

        @pl.when((slot == 0) | (col[before] != col[slot]))
        def _():
            total[...] = jnp.zeros_like(total)

        @pl.when(length[slot] > 0)
        def _():
            seen = _gather(x_ref, gathered, at, slot, rows, depth)
            total[...] += jnp.dot(w_ref[0], seen, preferred_element_type=jnp.float32)

        @pl.when((slot == slots - 1) | (col[after] != col[slot]))
        def _():
            y_ref[...] = ACTIVATIONS[activation](total[...] + bias_ref[...]).astype(y_ref.dtype)

    return _call(
        body,
        runs,
        (x, weights, bias),
        grid=(x.shape[1] // tile, slots),
        in_specs=[
            pl.BlockSpec((x.shape[0], tile), lambda m, s, *_: (0, m)),
            pl.BlockSpec((1, cols, depth), lambda m, s, col, length, source, at: (source[s], 0, 0)),
            pl.BlockSpec((cols, 1), lambda m, s, col, *_: (col[s], 0)),
        ],
        out_specs=pl.BlockSpec((cols, tile), lambda m, s, col, *_: (col[s], m)),
        scratch_shapes=[pltpu.VMEM((cols, tile), jnp.float32), pltpu.VMEM((depth, tile), x.dtype)],
        out=((bias.shape[0], x.shape[1]), x.dtype),
        name="block_sparse_product",
        limit=limit,
    )


def gradient(
    runs: Runs, x: jax.Array, dy: jax.Array, block: tuple[int, int], tile: int, limit: int
) -> jax.Array:
    """float32 (tiles, S, cols, depth): each tile's part of the runs' gradients, x and dy feature-major.

    What spare runs and those of empty columns hold is not defined.
    """
    rows, cols = block
    (slots, size), tiles = runs.place.shape, x.shape[1] // tile

    def body(col, length, source, at, x_ref, dy_ref, dw_ref, gathered):
        slot = pl.program_id(1)

        @pl.when(length[slot] > 0)
        def _():
            seen = _gather(x_ref, gathered, at, slot, rows, size * rows)
            over_batch = (((1,), (1,)), ((), ()))
            dw_ref[0, 0] = lax.dot_general(
                dy_ref[...], seen, over_batch, preferred_element_type=jnp.float32
            )

    return _call(
        body,
        runs,
        (x, dy),
        grid=(tiles, slots),
        in_specs=[
            pl.BlockSpec((x.shape[0], tile), lambda m, s, *_: (0, m)),
            pl.BlockSpec((cols, tile), lambda m, s, col, *_: (col[s], m)),
        ],
        out_specs=pl.BlockSpec(
            (1, 1, cols, size * rows), lambda m, s, col, length, source, at: (m, source[s], 0, 0)
        ),
        scratch_shapes=[pltpu.VMEM((size * rows, tile), x.dtype)],
        out=((tiles, slots, cols, size * rows), jnp.float32),
        name="block_sparse_gradient",
        limit=limit,
    )


def _gather(
    x_ref: Any, gathered: Any, at: Any, slot: jax.Array, rows: int, depth: int
) -> jax.Array:
    """The run's rows of the panel, one block below the other: (depth, tile)."""
    start = lambda i: pl.multiple_of(at[slot * (depth // rows) + i] * rows, rows)
    if depth == rows:
        return x_ref[pl.ds(start(0), rows), :]
    for i in range(depth // rows):
        gathered[i * rows : (i + 1) * rows, :] = x_ref[pl.ds(start(i), rows), :]
    return gathered[...]


def _call(
    body: Callable[..., None],
    runs: Runs,
    args: tuple[jax.Array, ...],
    *,
    grid: tuple[int, int],
    out: tuple[tuple[int, ...], Any],
    name: str,
    limit: int,
    **specs: Any,
) -> jax.Array:
    """The kernel over (tiles, runs), with the runs' tables prefetched; the runs in order, tiles in any."""
    tables = (runs.col, runs.length, runs.source, runs.rows.ravel())
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
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=limit
        ),
        name=name,
    )
    return call(*tables, *args)
