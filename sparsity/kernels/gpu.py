"""The GPU's backend: Mosaic kernels for Hopper's wgmma over runs of blocks, batch-major, persistent.

A run (`runs`) is 64 weights deep, so that each step of the pipeline feeds the tensor cores with as much,
whatever the block: as many tiles of x as the run has blocks, and one tile of weights. Copies into shared
memory (TMA) are asynchronous and several steps ahead. A fixed number of programs, one per multiprocessor,
takes the tiles of y in turn, those of the same rows of x one after another, so that they stay in L2.

The gradient's accumulator has to have 64 rows at least, which is why live blocks of a column are grouped.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.layout import Layout, transposed, transposed_blocks
from sparsity.kernels.manual import vary_alike, vary_like, varying
from sparsity.kernels.runs import Runs, from_runs, runs_of, to_runs

DTYPES = ("bfloat16", "float16")
SIDES = (16, 32, 64, 128)
DEPTH = 64


class Launch(NamedTuple):
    """How the kernels run.

    programs:  blocks of threads, one per multiprocessor (an H100 and an H200 have 132).
    steps:     stages of the pipeline.
    interpret: pallas's parameters to interpret with, in tests.
    """

    programs: int = 132
    steps: int = 4
    interpret: Any = None


HOPPER = Launch()


def refusal(layout: Layout, dtype: jnp.dtype) -> str:
    """Why this backend cannot run, in words; "" where it can."""
    if jnp.dtype(dtype).name not in DTYPES:
        return f"the GPU's kernels are for {' and '.join(DTYPES)}, not {jnp.dtype(dtype).name}"
    if not all(side in SIDES for side in layout.block):
        return f"the GPU's kernels are for blocks with sides of {SIDES}, not {layout.block}"
    return _other_card()


def forward(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    bias: jax.Array | None,
    activation: str,
    launch: Launch = HOPPER,
) -> jax.Array:
    """activation(x @ W + bias): x (M, K) -> (M, N)."""
    y = _product(x, packed, layout, launch)
    if bias is not None:
        y = y + bias.astype(jnp.float32)
    return ACTIVATIONS[activation](y).astype(x.dtype)


def dx(
    dy: jax.Array,
    packed: jax.Array,
    layout: Layout,
    launch: Launch = HOPPER,
) -> jax.Array:
    """dy @ W.T: dy (M, N) -> (M, K)."""
    return _product(dy, transposed_blocks(packed, layout), transposed(layout), launch)


def dw(
    x: jax.Array,
    dy: jax.Array,
    layout: Layout,
    launch: Launch = HOPPER,
) -> jax.Array:
    """x.T @ dy at live blocks: (capacity, rows, cols), 0 in padding."""
    runs = runs_of(layout, _size(layout))
    x, dy = _whole(x, layout, 0, DEPTH), _whole(dy, layout, 1, DEPTH)
    return from_runs(_gradient(runs, x, dy, layout.block, launch).swapaxes(1, 2), runs, layout)


def _other_card() -> str:
    """Why the GPU of this process, if it has one, has no kernel."""
    if jax.default_backend() != "gpu":
        return ""
    found = getattr(jax.local_devices()[0], "compute_capability", "")
    if found == "9.0":
        return ""
    return (
        f"the GPU's kernels are for compute capability 9.0 (Hopper); this one has {found or 'none'}"
    )


def _size(layout: Layout) -> int:
    """Blocks of a run."""
    return max(1, DEPTH // layout.block[0])


def _whole(x: jax.Array, layout: Layout, axis: int, tile: int) -> jax.Array:
    """x (M, K) with zeros up to whole tiles of rows and whole blocks."""
    rows, features = -(-x.shape[0] // tile) * tile, layout.grid[axis] * layout.block[axis]
    return jnp.pad(x, ((0, max(rows, tile) - x.shape[0]), (0, features - x.shape[1])))


def _product(x: jax.Array, packed: jax.Array, layout: Layout, launch: Launch) -> jax.Array:
    runs = runs_of(layout, _size(layout))
    tile = 128 if x.shape[0] > 64 else 64
    seen = _whole(x, layout, 0, tile)
    y = _columns(runs, seen, to_runs(packed, runs), layout, tile, launch)
    return y[: x.shape[0], : layout.shape[1]]


def _columns(
    runs: Runs, x: jax.Array, weights: jax.Array, layout: Layout, tile: int, launch: Launch
) -> jax.Array:
    """x @ W (M, C * cols): a tile (tile, cols) of y at a time, over the runs of its column."""
    (rows, cols), columns = layout.block, layout.grid[1]
    size, deep = runs.rows.shape[1], min(rows, DEPTH)
    halves = rows // deep  # A block of 128 is two steps.
    tiles = x.shape[0] // tile
    firsts, counts = _of_columns(runs, columns)
    swizzled = _swizzled(deep, x.dtype)

    def body(firsts_ref, counts_ref, rows_ref, x_ref, w_ref, y_ref):
        def one(i):
            m, c = i // columns, i % columns
            first = firsts_ref[c]

            def total(acc):
                place = lambda g: (
                    lambda s: (
                        m,
                        rows_ref[(first + s // halves) * size + g] * halves + s % halves,
                    )
                )
                plgpu.emit_pipeline(
                    lambda _, *refs: _accumulate(acc, refs, deep),
                    grid=(counts_ref[c] * halves,),
                    in_specs=[
                        *(_tile((tile, deep), place(g), swizzled) for g in range(size)),
                        _tile(
                            (cols, deep * size),
                            lambda s: (first + s // halves, s % halves),
                            swizzled,
                        ),
                    ],
                    max_concurrent_steps=launch.steps,
                )(*(x_ref for _ in range(size)), w_ref)
                return acc[...]

            y = pl.run_scoped(total, plgpu.ACC((tile, cols), jnp.float32))
            _store(y, y_ref, (m * tile, c * cols), x.dtype)

        _in_turn(tiles * columns, launch.programs, one)

    flat = weights.reshape(-1, weights.shape[2])
    return _call(
        body,
        (firsts, counts, runs.rows.ravel(), x, flat),
        (x.shape[0], columns * cols),
        x.dtype,
        launch,
    )


def _gradient(
    runs: Runs, x: jax.Array, dy: jax.Array, block: tuple[int, int], launch: Launch
) -> jax.Array:
    """(S, size * rows, cols): x.T @ dy at each run's blocks. Undefined for runs without blocks."""
    (rows, cols), (slots, size), steps = block, runs.rows.shape, x.shape[0] // DEPTH
    stages = min(launch.steps, steps)
    deep = min(rows, DEPTH)

    def body(length_ref, col_ref, rows_ref, x_ref, dy_ref, dw_ref, xs, dys, arrived):
        def fetch(slot, step):
            stage, batch = step % stages, pl.ds(step * DEPTH, DEPTH)
            here = arrived.at[stage]
            for g in range(size):
                features = pl.ds(rows_ref[slot * size + g] * rows, rows)
                to = xs.at[stage, :, pl.ds(g * rows, rows)]
                plgpu.copy_gmem_to_smem(x_ref.at[batch, features], to, here)
            outputs = pl.ds(col_ref[slot] * cols, cols)
            plgpu.copy_gmem_to_smem(dy_ref.at[batch, outputs], dys.at[stage], here)

        def one(slot):
            pl.when(length_ref[slot] > 0)(lambda: alive(slot))

        def alive(slot):
            for step in range(stages):
                fetch(slot, jnp.int32(step))

            def total(acc):
                def multiply(step, _):
                    stage = step % stages
                    plgpu.barrier_wait(arrived.at[stage])
                    plgpu.wgmma(acc, plgpu.transpose_ref(xs.at[stage], (1, 0)), dys.at[stage])
                    # All but this product are done, and the stage of the one before is free.
                    plgpu.wgmma_wait(1)
                    later = step - 1 + stages
                    pl.when((step > 0) & (later < steps))(lambda: fetch(slot, later))

                lax.fori_loop(0, steps, multiply, None)
                return acc[...]

            dw = pl.run_scoped(total, plgpu.ACC((size * rows, cols), jnp.float32))
            _store(dw, dw_ref, (slot * size * rows, 0), x.dtype)

        _in_turn(slots, launch.programs, one)

    scratch = {
        "xs": plgpu.SMEM(
            (stages, DEPTH, size * rows), x.dtype, transforms=_swizzled(deep, x.dtype)
        ),
        "dys": plgpu.SMEM((stages, DEPTH, cols), x.dtype, transforms=_swizzled(cols, x.dtype)),
        "arrived": plgpu.Barrier(num_arrivals=size + 1, num_barriers=stages),
    }
    tables = (runs.length, runs.col, runs.rows.ravel())
    out = _call(body, (*tables, x, dy), (slots * size * rows, cols), x.dtype, launch, scratch)
    return out.reshape(slots, size * rows, cols)


def _accumulate(acc: Any, refs: tuple[Any, ...], deep: int) -> None:
    """acc += the tiles of x @ their parts of the run, which lies transposed."""
    *seen, weights = refs
    for g, x_ref in enumerate(seen):
        part = weights.at[:, pl.ds(g * deep, deep)]
        plgpu.wgmma(acc, x_ref, plgpu.transpose_ref(part, (1, 0)))
    # All but the last are done, and with them the step before, whose stage is released now.
    plgpu.wgmma_wait(1)


def _store(value: jax.Array, to: Any, corner: tuple[Any, Any], dtype: Any) -> None:
    """The accumulator to its place in `to`, by way of shared memory."""
    shape = value.shape

    def through(held):
        held[...] = value.astype(dtype)
        plgpu.commit_smem()
        place = tuple(pl.ds(at, n) for at, n in zip(corner, shape, strict=True))
        plgpu.copy_smem_to_gmem(held, to.at[place])
        plgpu.wait_smem_to_gmem(0)

    pl.run_scoped(through, plgpu.SMEM(shape, dtype, transforms=_swizzled(shape[1], dtype)))


def _in_turn(count: int, programs: int, one: Any) -> None:
    """`one` of each index that falls to this program."""
    mine = lax.axis_index("program")
    turns = (count - mine + programs - 1) // programs
    lax.fori_loop(0, turns, lambda turn, _: one(mine + turn * programs), None)


def _of_columns(runs: Runs, columns: int) -> tuple[jax.Array, jax.Array]:
    """int32 (C,), twice: each column's first run and how many of its runs, from there on, hold blocks."""
    first = jnp.searchsorted(runs.col, jnp.arange(columns, dtype=jnp.int32))
    counts = jnp.zeros(columns, jnp.int32).at[runs.col].add((runs.length > 0).astype(jnp.int32))
    return first.astype(jnp.int32), counts


def _tile(shape: tuple[int, int], index_map: Any, transforms: Any) -> Any:
    return plgpu.BlockSpec(shape, index_map, transforms=transforms, delay_release=1)


def _swizzled(wide: int, dtype: Any) -> tuple[Any, ...]:
    """Rows of up to 128 bytes, as wgmma wants them in shared memory."""
    size = jnp.dtype(dtype).itemsize
    wide = min(wide, 128 // size)
    return plgpu.TilingTransform((8, wide)), plgpu.SwizzleTransform(wide * size)


def _call(
    body: Any,
    args: tuple[jax.Array, ...],
    shape: tuple[int, int],
    dtype: Any,
    launch: Launch,
    scratch: dict[str, Any] | None = None,
) -> jax.Array:
    args = vary_alike(args)
    axes = varying(args[0])
    out = jax.ShapeDtypeStruct(shape, dtype)
    interpret = {} if launch.interpret is None else {"interpret": launch.interpret}
    call = plgpu.kernel(
        body,
        out_type=out,
        grid=(launch.programs,),
        grid_names=("program",),
        scratch_types=scratch or {},
        **interpret,
    )
    return vary_like(call(*args), axes)
