"""The TPU's kernels: lowered for a TPU, and interpreted with race detection against the definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from sparsity.kernels import backends, dense, reference
from sparsity.kernels.blocks import pack
from sparsity.kernels.layout import from_mask
from sparsity.kernels.ops import block_sparse_matmul
from sparsity.kernels.tpu import backend as tpu
from sparsity.kernels.tpu import budget
from sparsity.kernels.tpu.runs import from_runs, runs_of, to_runs
from tests.kernels.cases import KINDS, Case, layout_of, mask_of_kind, normal

TOLERANCES = {"float32": 2e-5, "bfloat16": 3e-2}
# One per way through the kernels: runs of 8, 4, 2 blocks and of one, ragged edges, sides that differ.
VARIANTS = {
    "16, ragged": (Case((150, 50), (16, 16)), "float32"),
    "32 x 64, ragged": (Case((160, 100), (32, 64)), "bfloat16"),
    "64": (Case((128, 192), (64, 64)), "bfloat16"),
    "128": (Case((256, 256), (128, 128)), "float32"),
}
SLOW = [(side, dtype) for side in (16, 32, 64, 128) for dtype in TOLERANCES]


def found_races() -> bool:
    """Whether the interpreter saw one in the last kernel; every kernel starts anew."""
    from jax._src.pallas.mosaic.interpret import interpret_pallas_call as interpreter

    return bool(interpreter.races.races_found)


def arguments(case, kind, seed, dtype, rows=140):
    """x, packed blocks with NaN in padding, layout, bias, and a gradient of the product."""
    layout = layout_of(case, mask_of_kind(kind, seed, case.grid))
    packed = pack(normal(seed, *case.shape, dtype=dtype), layout)
    packed = jnp.where(layout.live[:, None, None], packed, jnp.nan)
    k, n = case.shape
    x, dy = normal(seed + 1, rows, k, dtype=dtype), normal(seed + 2, rows, n, dtype=dtype)
    return x, packed, layout, normal(seed + 3, n), dy


def raceless(got):
    """What an interpreted kernel gave, once it is known that it ran without a race."""
    jax.block_until_ready(got)
    assert not found_races()
    return got


def check(case, kind, seed, dtype, activation="none", rows=140):
    """The three products against the definition and its gradient; padding gets exact zeros."""
    x, packed, layout, bias, dy = arguments(case, kind, seed, dtype, rows)
    weights = pack_clean(packed, layout)
    plain = functools.partial(reference.block_sparse_matmul, layout=layout)
    asked = plain(x, packed, bias=bias, activation=activation)
    asked_dx, asked_dw = jax.vjp(plain, x, packed)[1](dy)
    near(raceless(tpu.forward(x, weights, layout, bias, activation)), asked, dtype)
    near(raceless(tpu.dx(dy, weights, layout)), asked_dx, dtype)
    dw = raceless(tpu.dw(x, dy, layout))
    near(jnp.where(layout.live[:, None, None], dw, 0), asked_dw, dtype)
    assert not np.any(np.asarray(dw)[~np.asarray(layout.live)])


def pack_clean(packed, layout):
    """As backends are called: finite beyond a ragged edge, whatever in padding."""
    rows = layout.rows[:, None] * layout.block[0] + jnp.arange(layout.block[0]) < layout.shape[0]
    cols = layout.cols[:, None] * layout.block[1] + jnp.arange(layout.block[1]) < layout.shape[1]
    return jnp.where(rows[:, :, None] & cols[:, None, :], packed, 0)


def near(got, asked, dtype):
    got, asked = np.asarray(got, np.float32), np.asarray(asked, np.float32)
    assert got.shape == asked.shape and np.all(np.isfinite(got))
    bound = TOLERANCES[dtype] * max(1.0, np.abs(asked).max(initial=0))
    np.testing.assert_allclose(got, asked, rtol=0, atol=bound)


# One in the quick suite: interpreting compiles each of them for many seconds.
@pytest.mark.parametrize(
    "name",
    ["16, ragged", *(pytest.param(name, marks=pytest.mark.slow) for name in list(VARIANTS)[1:])],
)
def test_the_products_interpreted_are_the_definitions(name, interpreted):
    case, dtype = VARIANTS[name]
    assert not tpu.refusal(layout_of(case, np.ones(case.grid, bool)), dtype)
    check(case, "empty row and column", 3, dtype, "gelu")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("side", "dtype"), SLOW)
def test_every_block_and_kind_of_mask_interpreted_is_the_definition(side, dtype, kind, interpreted):
    # More than one panel of the batch, and a last one that is not full.
    check(Case((2 * side + 5, 3 * side - 3), (side, side)), kind, 1, dtype, "relu", rows=1100)


def test_a_race_that_is_planted_is_found():
    """A write to where a copy is still landing: what the other tests' fixture would report."""

    def body(x, y, sem):
        copy = pltpu.make_async_copy(x, y, sem)
        copy.start()
        y[...] = jnp.zeros_like(y)
        copy.wait()

    whole = pl.BlockSpec((8, 128), lambda: (0, 0))
    call = pl.pallas_call(
        body,
        in_specs=[whole],
        out_specs=whole,
        out_shape=jax.ShapeDtypeStruct((8, 128), jnp.float32),
        scratch_shapes=[pltpu.SemaphoreType.DMA],
        interpret=pltpu.InterpretParams(detect_races=True, dma_execution_mode="eager"),
    )
    # jax 0.12 raises, 0.10 prints and remembers.
    try:
        jax.block_until_ready(call(jnp.ones((8, 128))))
    except jax.errors.JaxRuntimeError as error:
        assert "race" in str(error).lower()
    else:
        assert found_races()
    finally:
        pltpu.reset_tpu_interpret_mode_state()


BLOCKS = [(16, 16), (32, 32), (64, 64), (128, 128), (16, 128), (128, 32)]
QUICK = {((16, 16), "float32"), ((64, 64), "bfloat16"), ((128, 32), "bfloat16")}


# Lowering each takes seconds: three in the quick suite.
@pytest.mark.parametrize(
    ("block", "dtype"),
    [
        pytest.param(b, d, marks=[] if (b, d) in QUICK else pytest.mark.slow)
        for b in BLOCKS
        for d in TOLERANCES
    ],
)
def test_every_variant_is_lowered_for_a_tpu(block, dtype):
    """All three kernels, as the product that a user calls reaches them."""
    layout = from_mask(np.ones((4, 4), bool), (4 * block[0] - 3, 4 * block[1] - 3), block)
    x, packed = normal(0, 130, layout.shape[0], dtype=dtype), normal(1, 16, *block, dtype=dtype)

    def loss(x, packed, layout):
        return jnp.sum(
            block_sparse_matmul(x, packed, layout, path="sparse").astype(jnp.float32) ** 2
        )

    both = jax.jit(jax.grad(loss, (0, 1)))
    module = jax.export.export(both, platforms=["tpu"])(x, packed, layout).mlir_module()
    # Forward, dX, dW.
    assert module.count("tpu_custom_call") == 3


def test_a_new_mask_is_lowered_to_the_same_program():
    case = VARIANTS["64"][0]
    run = jax.jit(lambda *args: tpu.forward(*args, "none"))
    texts = {
        run.trace(*arguments(case, kind, 1, "bfloat16")[:4])
        .lower(lowering_platforms=("tpu",))
        .as_text()
        for kind in ("dead", "random", "alive")
    }
    assert len(texts) == 1


@pytest.mark.parametrize("kind", ["random", "dead", "alive"])
def test_runs_hold_every_live_block_once(kind):
    case = Case((80, 96), (16, 16))
    layout = layout_of(case, mask_of_kind(kind, 4, case.grid))
    packed = pack(normal(0, *case.shape), layout)
    for size in (1, 3):
        runs = runs_of(layout, size)
        np.testing.assert_array_equal(from_runs(to_runs(packed, runs), runs, layout), packed)
        assert int(jnp.sum(runs.length)) == int(layout.count)
        assert set(np.asarray(runs.col).tolist()) == set(range(case.grid[1]))
        assert np.all(np.diff(np.asarray(runs.col)) >= 0)


@pytest.mark.parametrize(
    ("shape", "block", "dtype", "words"),
    [
        ((64, 64), (8, 8), "float32", "blocks with sides of"),
        ((100, 100), (20, 20), "float32", "blocks with sides of"),
        ((64, 64), (16, 16), "float16", "not float16"),
        ((2**17, 64), (64, 64), "float32", "MiB of VMEM"),
        ((64, 2**17), (64, 64), "float32", "MiB of VMEM"),
    ],
)
def test_what_has_no_kernel_is_refused_in_words_and_runs_dense(shape, block, dtype, words):
    grid = (-(-shape[0] // block[0]), -(-shape[1] // block[1]))
    layout = from_mask(np.zeros(grid, bool), shape, block, 1)
    module, reason = backends.backend_of("tpu", layout, dtype)
    assert module is dense and words in reason


def test_too_many_indices_are_refused_in_words():
    capacity = 2**18
    assert "MiB of SMEM" in budget.excess((4096, 4096), (16, 16), capacity, 2)


@pytest.mark.parametrize("over", ["vmap", "shard_map"])
def test_mapped_products_are_lowered_for_a_tpu(over):
    """Over stacked weights, and over rows on devices with a weight that every device holds."""
    layout = from_mask(np.ones((4, 4), bool), (64, 64), (16, 16))

    def gradients(x, packed, layout):
        loss = lambda x, packed: jnp.sum(block_sparse_matmul(x, packed, layout, path="sparse") ** 2)
        return jax.grad(loss, (0, 1))(x, packed)

    x, packed, leading = normal(0, 130, 64), normal(1, 16, 16, 16), (2,)
    if over == "vmap":
        run = jax.vmap(gradients)
    else:
        mesh, leading = jax.make_mesh((1,), ("rows",), axis_types=(AxisType.Auto,)), ()
        specs = (P("rows"), P(), P())
        run = jax.shard_map(gradients, mesh=mesh, in_specs=specs, out_specs=(P("rows"), P()))
    args = jax.tree.map(lambda a: jnp.broadcast_to(a, (*leading, *a.shape)), (x, packed, layout))
    module = jax.export.export(jax.jit(run), platforms=["tpu"])(*args).mlir_module()
    assert module.count("tpu_custom_call") == 3
