"""Dense times sparse on Hopper where blocks are small: a panel of x stays in shared memory, weights stream past it.

`shares` says when and why, `bands` is the kernel, here is what it is launched with.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels.gpu import persistent
from sparsity.kernels.gpu.bands import Plan, Refs, work
from sparsity.kernels.gpu.persistent import Axis, Launch, swizzled
from sparsity.kernels.gpu.shares import IDS, STAGES, TALL, WIDE, WORKERS, Panels
from sparsity.kernels.gpu.walk import Walk


def taken(walk: Walk, count: int, launch: Launch) -> bool:
    """Whether a product of `count` rows is `panel_product`'s: a matrix's, of square blocks that the launch names."""
    rows, cols = walk.layout.block
    asked = rows == cols and rows in launch.panels and walk.window is None
    return asked and _panels(walk, count).worthwhile(launch.programs)


def panel_product(
    x: jax.Array, walk: Walk, bias: jax.Array | None, activation: str, launch: Launch
) -> jax.Array:
    """activation(x @ W + bias), with as many rows and columns as the kernel writes.

    x: (M, features). bias: (N,), or None.
    """
    plan = _plan(_panels(walk, x.shape[0]), walk.places is not None, launch)
    plan = plan._replace(biased=bias is not None, activation=activation)
    wide = plan.bands * WIDE
    if bias is not None:
        bias = jnp.pad(bias.astype(jnp.float32), (0, wide - bias.size))
    rows = Axis(x.shape[0], plan.panels * TALL, TALL, 8)
    features = _padded(walk.layout.rows, IDS, launch)
    seen = persistent.reaching(x, (rows, persistent.blocks(x.shape[1], plan.side)), launch)
    # In the order of the walk, so that a stage is one copy.
    packed = walk.packed if walk.places is None else walk.packed[walk.places]
    tables = persistent.given(walk.layout.col_starts, features, bias)
    args = (*tables, seen, _padded(packed, plan.batch, launch))

    body = lambda *refs, **shared: work(plan, launch, Refs(*refs, **shared))
    name = f"block_sparse_panels{'' if walk.places is None else '_backwards'}"
    out = jax.ShapeDtypeStruct((launch.reach(rows), wide), x.dtype)
    return persistent.call(body, name, args, out, _scratch(plan, x.dtype), launch, WORKERS)


def _panels(walk: Walk, count: int) -> Panels:
    layout = walk.layout
    return Panels(count, layout.shape, layout.block[0], layout.capacity)


def _plan(found: Panels, turned: bool, launch: Launch) -> Plan:
    (blocks, columns), stages = found.grid, min(STAGES, launch.stages)
    return Plan(
        side=found.side,
        blocks=blocks,
        columns=columns,
        bands=found.bands,
        panels=found.panels,
        shares=found.shares(launch.programs),
        batch=found.rings(stages).batch,
        stages=stages,
        turned=turned,
    )


def _padded(table: jax.Array, copied: int, launch: Launch) -> jax.Array:
    """With entries as far as copies of so many need them."""
    size, whole = table.shape[0], [Axis(n, n, 1, 1) for n in table.shape[1:]]
    return persistent.reaching(table, (Axis(size, size + copied, copied, 1), *whole), launch)


def _scratch(plan: Plan, dtype: Any) -> dict[str, Any]:
    side, held = plan.side, swizzled(plan.side, dtype)
    ring, count = (WORKERS, plan.stages), WORKERS * plan.stages
    return {
        "xs": plgpu.SMEM((plan.blocks, TALL, side), dtype, transforms=held),
        "ws": plgpu.SMEM((*ring, plan.batch, side, side), dtype, transforms=held),
        "ids": plgpu.SMEM((*ring, IDS), jnp.int32),
        "ys": plgpu.SMEM((WORKERS, TALL, WIDE), dtype, transforms=swizzled(WIDE, dtype)),
        "loaded": plgpu.Barrier(num_arrivals=plan.blocks),
        "done": plgpu.Barrier(num_arrivals=WORKERS),
        "full": plgpu.Barrier(num_arrivals=2, num_barriers=count),
        "free": plgpu.Barrier(num_arrivals=1, num_barriers=count),
    }
