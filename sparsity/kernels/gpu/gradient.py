"""The gradient of live blocks on Hopper: dense times dense, only where a block lives.

The accumulator of a tensor core's product has 64 rows at least, so that live blocks of a column are grouped
into runs of 128 weights, one half to each group. `runs` is the kernel, here is what it is launched with.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels.gpu import budget, persistent
from sparsity.kernels.gpu.persistent import GROUPS, Axis, Launch, swizzled
from sparsity.kernels.gpu.pieces import PIECES, Window, pieces_of
from sparsity.kernels.gpu.runs import HALF, Plan, Refs, work
from sparsity.kernels.gpu.walk import DEPTH, SINGLE, runs_of
from sparsity.kernels.layout import Layout

# Where there are fewer runs for a program, the batch is split, into at most so many parts of at least so many
# steps; each costs so much of a round, for its sums are written and added up.
FEW, MOST_SPLITS, LEAST_STEPS, SPLIT_COST = 4, 8, 16, 0.03


def gradient(
    x: jax.Array, dy: jax.Array, layout: Layout, window: Window | None, launch: Launch
) -> jax.Array:
    """x.T @ dy at live blocks, (capacity, rows, cols) and 0 in padding: x (M, K), dy (M, N).

    With a window both are (images, pixels * features), in whole blocks of features.
    """
    plan = _plan(layout, window, dy.shape[0], launch)
    runs = runs_of(layout, plan.size)
    outputs = persistent.blocks(dy.shape[1], plan.block[1])
    features = persistent.blocks(x.shape[1], plan.block[0], plan.pieces.beyond)
    seen = _seen(x, plan, features, plan.across, launch)
    given = _seen(dy, plan, outputs, plan.both, launch)

    body = lambda *refs, **shared: work(plan, launch, Refs(*refs, **shared))
    (rows, cols), wide = plan.block, x.dtype if plan.splits == 1 else jnp.float32
    out = jax.ShapeDtypeStruct((plan.splits * plan.capacity * rows, cols), wide)
    args = (*persistent.given(*runs, layout.rows), seen, given)
    held = _scratch(plan, x.dtype, wide)
    found = persistent.call(body, "block_sparse_gradient", args, out, held, launch)
    found = jnp.sum(found.reshape(plan.splits, plan.capacity, rows, cols), 0)
    return jnp.where(layout.live[:, None, None], found, 0).astype(x.dtype)


def _seen(x: jax.Array, plan: Plan, features: Axis, turned: bool, launch: Launch) -> jax.Array:
    """x or dy as the kernel copies it."""
    reach = plan.pieces.reach(plan.steps * plan.each)
    rows = Axis(x.shape[0], reach, plan.pieces.rows, DEPTH if turned else 8)
    seen = persistent.reaching(x, (rows, features), launch)
    return seen.T if turned else seen


def _plan(layout: Layout, window: Window | None, count: int, launch: Launch) -> Plan:
    (rows, cols), tall = layout.block, GROUPS * HALF
    across = rows < HALF or cols < SINGLE
    # Where x lies (features, images), a part of a step would not lie together in shared memory.
    pieces = pieces_of(count, DEPTH, DEPTH if across else DEPTH // PIECES, window)
    each = DEPTH // pieces.rows
    size, steps = tall // rows, -(-pieces.of(count) // each)
    return Plan(
        block=layout.block,
        capacity=layout.capacity,
        size=size,
        steps=steps,
        splits=_splits(layout.capacity // size, steps, launch.programs),
        stages=budget.of_gradient(tall, DEPTH, cols, launch.stages).stages,
        high=min(rows, HALF),
        across=across,
        both=min(rows, cols) < SINGLE,
        pieces=pieces,
        each=each,
    )


def _splits(runs: int, steps: int, programs: int) -> int:
    """Parts of the batch, so that few runs occupy all programs and their last round is not almost empty."""
    if runs >= FEW * programs:
        return 1
    rounds = lambda parts: -(-max(1, runs) * parts // programs) / parts
    most = min(MOST_SPLITS, max(1, steps // LEAST_STEPS))
    return min(range(1, most + 1), key=lambda parts: rounds(parts) * (1 + SPLIT_COST * (parts - 1)))


def _scratch(plan: Plan, dtype: Any, wide: Any) -> dict[str, Any]:
    cols = plan.block[1]
    x = (HALF, DEPTH) if plan.across else (DEPTH, HALF)
    dy = (cols, DEPTH) if plan.both else (DEPTH, cols)
    # Both factors have to lie alike, though x could have longer rows.
    held = swizzled(DEPTH if plan.both else cols, dtype)
    return {
        "xs": plgpu.SMEM((plan.stages, GROUPS, *x), dtype, transforms=held),
        "dys": plgpu.SMEM((plan.stages, *dy), dtype, transforms=held),
        "dws": plgpu.SMEM((GROUPS, HALF, cols), wide, transforms=swizzled(cols, wide)),
        **persistent.barriers(plan.copies, plan.stages),
    }
