"""Dense times sparse on Hopper: a tile of y at a time, over the steps of its column.

A step brings the tile of x that a block reads and the block's weights; a block of 128 is two steps, and blocks
of 16 share one (`gpu_walk`). `gpu_tiles` is the kernel, here is what it is launched with. `gpu_panel` takes the
products that its rule names.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels import gpu_budget, gpu_panel, gpu_ring
from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.gpu_ring import GROUPS, Axis, Launch, swizzled
from sparsity.kernels.gpu_shares import WIDE
from sparsity.kernels.gpu_tiles import Plan, Refs, work
from sparsity.kernels.gpu_walk import DEPTH, Walk, depth, steps_of

# Rows of x that a program multiplies at once; few rows, or few tiles of y, take half as many.
TILE = 256


class End(NamedTuple):
    """What becomes of sums: activation(sum + bias), bias (N,) or None."""

    bias: jax.Array | None = None
    activation: str = "none"


def product(x: jax.Array, walk: Walk, count: int, end: End, launch: Launch) -> jax.Array:
    """activation(x @ W + bias) of `count` rows, (count, N), W being what is walked.

    x: (rows, columns), as far as the walk's sources read.
    """
    layout, panels = walk.layout, gpu_panel.taken(walk, count, launch)
    fused = end.bias is None or loads_bias(WIDE if panels else layout.block[1])
    run = gpu_panel.panel_product if panels else _whole
    y = run(x, walk, count, *(end if fused else End()), launch)
    y = y[:count, : layout.shape[1]]
    if fused or end.bias is None:
        return y
    return ACTIVATIONS[end.activation](y + end.bias.astype(jnp.float32)).astype(x.dtype)


def loads_bias(across: int) -> bool:
    """Whether a kernel can add the bias to sums of so many columns; elsewhere XLA adds it to rounded ones.

    Mosaic loads whole lines of 128 bytes as accumulators lie, from jax 0.12 on.
    """
    return jax.__version_info__ >= (0, 12) and across * 4 >= 128


def _whole(
    x: jax.Array, walk: Walk, count: int, bias: jax.Array | None, activation: str, launch: Launch
) -> jax.Array:
    """The product with as many rows and columns as the kernel writes."""
    plan, steps = _plan(walk, count, End(bias, activation), launch), steps_of(walk)
    wide = plan.columns * plan.block[1]
    if bias is not None:
        bias = jnp.pad(bias.astype(jnp.float32), (0, wide - bias.size))
    tables = gpu_ring.given(*steps[:-1], bias)
    rows = plan.tiles * GROUPS * plan.half
    seen = _seen(x, rows + walk.sources.beyond, plan, launch)
    args = (*tables, seen, steps.weights)

    def block_sparse_product(*refs, **shared):
        work(plan, launch, Refs(*refs, **shared))

    tall = launch.reach(Axis(count, rows, plan.half, 8))
    out = jax.ShapeDtypeStruct((tall, wide), x.dtype)
    return gpu_ring.call(block_sparse_product, args, out, _scratch(plan, x.dtype), launch)


def _seen(x: jax.Array, copied: int, plan: Plan, launch: Launch) -> jax.Array:
    """x as the kernel copies it, so many rows: (features, rows) where blocks share a step."""
    (count, features), side = x.shape, plan.block[0]
    rows = Axis(count, copied, plan.half, 8 if plan.shared == 1 else DEPTH)
    seen = gpu_ring.reaching(x, (rows, gpu_ring.blocks(features, side)), launch)
    return seen if plan.shared == 1 else seen.T


def _plan(walk: Walk, count: int, end: End, launch: Launch) -> Plan:
    layout, shared = walk.layout, walk.shared
    (rows, cols), columns = layout.block, layout.grid[1]
    few = count <= TILE // 2 or -(-count // TILE) * columns < launch.programs
    tile, deep = TILE // 2 if few else TILE, depth(rows)
    return Plan(
        block=layout.block,
        columns=columns,
        shared=shared,
        deep=deep,
        parts=max(1, rows // DEPTH),
        turned=shared > 1 or walk.places is not None,
        half=tile // GROUPS,
        tiles=max(1, -(-count // tile)),
        stages=gpu_budget.of_product(tile, deep, cols, launch.stages).stages,
        line=walk.sources.line,
        biased=end.bias is not None,
        activation=end.activation,
    )


def _scratch(plan: Plan, dtype: Any) -> dict[str, Any]:
    cols = plan.block[1]
    # Both factors have to lie alike.
    held = swizzled(plan.deep if plan.turned else min(plan.deep, cols), dtype)
    x = (plan.half, plan.deep) if plan.shared == 1 else (plan.deep, plan.half)
    w = (cols, plan.deep) if plan.turned else (plan.deep, cols)
    return {
        "xs": plgpu.SMEM((plan.stages, GROUPS, *x), dtype, transforms=held),
        "ws": plgpu.SMEM((plan.stages, *w), dtype, transforms=held),
        "ys": plgpu.SMEM((GROUPS, plan.half, cols), dtype, transforms=swizzled(cols, dtype)),
        **gpu_ring.barriers(plan.shared * GROUPS + 1, plan.stages),
    }
