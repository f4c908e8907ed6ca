"""The GPU's kernels, interpreted on a CPU with race detection, and lowered for a GPU that is not there."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import mosaic_gpu as plgpu

from sparsity.kernels import backends, dense, ops
from sparsity.kernels.gpu import backend as gpu
from sparsity.kernels.gpu.persistent import Ring
from tests.kernels.agreement import arguments, check_gradients, check_value, custom_calls, near
from tests.kernels.cases import CASES, KINDS, Case, layout_of, mask_of_kind
from tests.kernels.races import found_race, no_race
from tests.kernels.turned_tiles import learnt

try:
    from jax.experimental.pallas.mosaic_gpu import InterpretGPUParams
except ImportError:  # jax 0.10 has it in a private place only.
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

learnt()
STRICT = InterpretGPUParams(detect_races=True, uninitialized_memory="nan")
# One block of threads takes all tiles in turn: what is in flight from one to the next is seen.
# `test_gpu_panel` tries the panels.
ONE = gpu.Launch(programs=1, stages=2, interpret=STRICT, panels=())
OLD = jax.__version_info__ < (0, 12)
VARIANTS = {
    "16, ragged": (Case((40, 50), (16, 16)), "bfloat16"),
    "32": (Case((96, 64), (32, 32)), "float16"),
    "64": (Case((128, 128), (64, 64)), "bfloat16"),
    "128": (Case((256, 128), (128, 128)), "bfloat16"),
    "wide": (Case((64, 128), (16, 64)), "bfloat16"),
    "tall": (Case((256, 32), (128, 16)), "bfloat16"),
}
# Interpreting compiles each of them for many seconds.
NAMES = ["16, ragged", *(pytest.param(n, marks=pytest.mark.slow) for n in list(VARIANTS)[1:])]
SQUARES = [(side, side) for side in gpu.SIDES]
forward, dx, dw = (functools.partial(f, launch=ONE) for f in (gpu.forward, gpu.dx, gpu.dw))


@pytest.mark.parametrize("name", NAMES)
def test_products_are_the_definition(name):
    case, dtype = VARIANTS[name]
    args = arguments(case, mask_of_kind("empty row and column", 5, case.grid), dtype, 70)
    with no_race():
        check_value(forward, args, "gelu")


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_the_definition(name):
    case, dtype = VARIANTS[name]
    args = arguments(case, mask_of_kind("random", 5, case.grid), dtype, 200)
    with no_race():
        check_gradients(dx, dw, args)


def test_parts_of_a_batch_add_up_to_the_gradient():
    """One run of blocks for two programs: each takes half of the batch."""
    case = Case((128, 32), (128, 32))
    args = arguments(case, np.ones(case.grid, bool), "bfloat16", 2048)
    with no_race():
        got = gpu.dw(args.x, args.dy, args.layout, launch=ONE._replace(programs=2))
    near(got, dense.dw(args.x, args.dy, args.layout))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", gpu.SIDES)
def test_every_block_and_kind_of_mask_is_the_definition(side, kind):
    # More than one tile of the batch, and a last one that is not full.
    case = Case((3 * side + 5, 2 * side - 3), (side, side))
    args = arguments(case, mask_of_kind(kind, 1, case.grid), "bfloat16", 300)
    with no_race():
        check_value(forward, args, "relu")
        check_gradients(dx, dw, args)


def test_a_race_is_found():
    """What the detection would miss, these tests would pass."""

    def hasty(x_ref, y_ref, there, arrived):
        plgpu.copy_gmem_to_smem(x_ref, there, arrived)
        y_ref[...] = there[...]
        plgpu.barrier_wait(arrived)

    call = plgpu.kernel(
        hasty,
        out_type=jax.ShapeDtypeStruct((64, 64), jnp.float32),
        scratch_types=[plgpu.SMEM((64, 64), jnp.float32), plgpu.Barrier()],
        interpret=STRICT,
    )
    assert found_race(lambda: jax.block_until_ready(call(jnp.ones((64, 64)))))


@pytest.mark.skipif(OLD, reason="jax 0.10's interpreter looks at no memory that tensor cores read")
@pytest.mark.parametrize("method", ["claim", "filled"])
def test_a_wait_that_the_ring_leaves_out_is_found(method, monkeypatch):
    def hasty(ring, step):
        stage = jax.lax.rem(step, ring.stages)
        return (stage, ring.full.at[stage]) if method == "claim" else stage

    case = Case((320, 16), (16, 16))
    args = arguments(case, np.ones(case.grid, bool), "bfloat16", 3)
    monkeypatch.setattr(Ring, method, hasty)
    assert found_race(
        lambda: jax.block_until_ready(forward(args.x, args.packed, args.layout, None, "none"))
    )


# ---- Lowered for a GPU ----

# Whatever the model expects of it.
sparse = functools.partial(ops.block_sparse_matmul, path="sparse")


def program(case: Case, dtype: str, rows: int = 300) -> str:
    """A training step of the product, as it would run on a GPU."""
    args = arguments(case, mask_of_kind("random", 0, case.grid), dtype, rows)

    def loss(x, packed, bias):
        y = sparse(x, packed, args.layout, bias=bias, activation="relu")
        return jnp.sum(y.astype(jnp.float32))

    step = jax.value_and_grad(loss, (0, 1, 2))
    return custom_calls("cuda", step, args.x, args.packed, args.bias)


@pytest.mark.parametrize("block", [*SQUARES, (16, 128), (128, 16), (32, 64)])
def test_a_training_step_lowers_to_three_kernels(block):
    dtype = gpu.DTYPES[block[0] == 32]
    text = program(Case((256, 384), block), dtype)
    assert text.count("stablehlo.custom_call @mosaic_gpu") == 3


@pytest.mark.parametrize(
    ("name", "dtype", "words"),
    [
        ("small blocks", "bfloat16", "blocks with sides of (16, 32, 64, 128), not (8, 8)"),
        ("Criteo's 10", "bfloat16", "not (10, 10)"),
        ("even", "float32", "bfloat16 and float16, not float32"),
    ],
)
def test_what_has_no_kernel_runs_dense_and_says_why(name, dtype, words):
    assert "mosaic_gpu" not in program(CASES[name], dtype)
    layout = layout_of(CASES[name], np.ones(CASES[name].grid, bool))
    module, why = backends.backend_of("cuda", layout, dtype)
    assert module is dense and words in why


def test_stacked_weights_lower():
    case = Case((64, 64), (16, 16))
    args = arguments(case, np.ones(case.grid, bool), "bfloat16", 8)
    both = lambda a: jnp.stack([a, a])
    stacked = jax.tree.map(both, (args.x, args.packed, args.layout))
    step = jax.grad(lambda x, p, l: jnp.sum(jax.vmap(sparse)(x, p, l)), (0, 1))
    assert "mosaic_gpu" in custom_calls("cuda", step, *stacked)
