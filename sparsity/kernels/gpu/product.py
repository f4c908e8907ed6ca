"""Dense times sparse on Hopper: a tile of y at a time, over the steps of its column.

A step brings the tile of x that a block reads and the block's weights; a block of 128 is two steps, and blocks
of 16 share one (`walk`). `tiles` is the kernel, here is what it is launched with. `panel` takes the
products that its rule names.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.gpu import budget, panel, persistent
from sparsity.kernels.gpu.persistent import GROUPS, Axis, Launch, swizzled
from sparsity.kernels.gpu.pieces import PIECES, pieces_of
from sparsity.kernels.gpu.shares import WIDE
from sparsity.kernels.gpu.tiles import Plan, Refs, work
from sparsity.kernels.gpu.walk import DEPTH, Walk, depth, steps_of

# Rows of x that a program multiplies at once; few rows, or few tiles of y, take half as many.
TILE = 256
# What half as many rows cost, as their weights are copied twice as often: (64 + 128) * 2 rows for 64 + 256.
OFTEN = 1.2


class End(NamedTuple):
    """What becomes of sums: activation(sum + bias), bias (N,) or None."""

    bias: jax.Array | None = None
    activation: str = "none"


def product(x: jax.Array, walk: Walk, end: End, launch: Launch) -> jax.Array:
    """activation(x @ W + bias), W being what is walked: x (M, K), the result (M, N).

    With a window x is (images, pixels * features), and the result (images, height, width, N).
    """
    panels = panel.taken(walk, x.shape[0], launch)
    fused = end.bias is None or loads_bias(WIDE if panels else walk.layout.block[1])
    run = panel.panel_product if panels else _whole
    y = run(x, walk, *(end if fused else End()), launch)
    y = y[: x.shape[0], : walk.blocks * walk.layout.block[1]]
    y = y.reshape(x.shape[0], *walk.image, -1)[..., : walk.features]
    if fused or end.bias is None:
        return y
    return ACTIVATIONS[end.activation](y + end.bias.astype(jnp.float32)).astype(x.dtype)


def loads_bias(across: int) -> bool:
    """Whether a kernel can add the bias to sums of so many columns; elsewhere XLA adds it to rounded ones.

    Mosaic loads whole lines of 128 bytes as accumulators lie, from jax 0.12 on.
    """
    return jax.__version_info__ >= (0, 12) and across * 4 >= 128


def _whole(
    x: jax.Array, walk: Walk, bias: jax.Array | None, activation: str, launch: Launch
) -> jax.Array:
    """The product with as many rows and columns as the kernel writes."""
    plan, steps = _plan(walk, x.shape[0], End(bias, activation), launch), steps_of(walk)
    if bias is not None:
        bias = jnp.pad(bias.astype(jnp.float32), (0, plan.columns * plan.block[1] - bias.size))
    tables = persistent.given(*steps[:-1], bias)
    args = (*tables, _seen(x, plan, launch), steps.weights)

    # By its name dX's kernel, which may be the same program, is told from the forward one.
    name = f"block_sparse_{'product' if walk.places is None else 'product_backwards'}"
    body = lambda *refs, **shared: work(plan, launch, Refs(*refs, **shared))
    wide = persistent.blocks(walk.blocks * plan.block[1], plan.block[1])
    shape = launch.reach(_rows(x, plan, 8)), launch.reach(wide)
    out = jax.ShapeDtypeStruct(shape, x.dtype)
    return persistent.call(body, name, args, out, _scratch(plan, x.dtype), launch)


def _seen(x: jax.Array, plan: Plan, launch: Launch) -> jax.Array:
    """x as the kernel copies it: (features, rows) where blocks share a step."""
    rows = _rows(x, plan, 8 if plan.shared == 1 else DEPTH)
    features = persistent.blocks(x.shape[1], plan.block[0], plan.pieces.beyond)
    seen = persistent.reaching(x, (rows, features), launch)
    return seen if plan.shared == 1 else seen.T


def _rows(x: jax.Array, plan: Plan, multiple: int) -> Axis:
    pieces = plan.tiles * GROUPS * plan.each
    return Axis(x.shape[0], plan.pieces.reach(pieces), plan.pieces.rows, multiple)


def _plan(walk: Walk, count: int, end: End, launch: Launch) -> Plan:
    layout, shared = walk.layout, walk.shared
    (rows, cols), columns = layout.block, layout.grid[1]
    spots = 1 if walk.window is None else walk.window.spots
    half = _half(count * spots, columns, launch)
    half = _filled(count, half, walk) if shared == 1 else half
    pieces = pieces_of(count, half, half // PIECES if shared == 1 else DEPTH, walk.window)
    # Where x lies (features, rows), a part of a group's tile would not lie together in shared memory.
    half, deep = pieces.rows if shared > 1 else half, depth(rows)
    return Plan(
        block=layout.block,
        columns=columns,
        shared=shared,
        deep=deep,
        parts=max(1, rows // DEPTH),
        turned=shared > 1 or walk.places is not None,
        half=half,
        tiles=-(-pieces.of(count) // (GROUPS * (half // pieces.rows))),
        stages=budget.of_product(GROUPS * half, deep, cols, launch.stages).stages,
        pieces=pieces,
        each=half // pieces.rows,
        biased=end.bias is not None,
        activation=end.activation,
    )


def _half(rows: int, columns: int, launch: Launch) -> int:
    """Rows of y that a group multiplies at once."""
    few = rows <= TILE // 2 or -(-rows // TILE) * columns < launch.programs
    return TILE // 2 // GROUPS if few else TILE // GROUPS


def _filled(count: int, half: int, walk: Walk) -> int:
    """The rows again, or half as many where so many images then leave far fewer of them empty."""
    fewer = TILE // 2 // GROUPS
    taken = lambda rows: -(-count // rows) * rows
    of = lambda half: taken(pieces_of(count, half, half // PIECES, walk.window).rows)
    if walk.window is None or of(half) <= OFTEN * of(fewer):
        return half
    return fewer


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
        **persistent.barriers(plan.copies, plan.stages),
    }
