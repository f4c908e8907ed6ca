"""A product that keeps a panel of x in shared memory: the definition, in fair shares, where it is worthwhile."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity.kernels import model, reference
from sparsity.kernels.calls import Call
from sparsity.kernels.geometry import geometry_of
from sparsity.kernels.gpu import backend as gpu
from sparsity.kernels.gpu import bands, panel
from sparsity.kernels.gpu.persistent import Ring
from sparsity.kernels.gpu.pieces import forwards
from sparsity.kernels.gpu.shares import WORKERS, Panels
from sparsity.kernels.gpu.walk import Walk
from sparsity.kernels.layout import transposed
from sparsity.kernels.tuned import Entry
from tests.kernels.agreement import arguments, check_value, custom_calls, near
from tests.kernels.cases import FILLS, KINDS, Case, mask_of_kind
from tests.kernels.races import found_race, no_race
from tests.kernels.test_gpu import OLD, ONE

# Both panels of 70 rows are one program's: what is in flight from one to the next is seen.
PANELS = ONE._replace(panels=(16, 32))
VARIANTS = {
    "16, ragged": (Case((310, 150), (16, 16)), "bfloat16", PANELS),
    "16, float16": (Case((48, 128), (16, 16)), "float16", PANELS._replace(stages=3)),
    "two shares": (Case((40, 330), (16, 16)), "bfloat16", PANELS._replace(programs=4)),
    "long columns": (Case((700, 64), (16, 16)), "bfloat16", PANELS),
    "32, ragged": (Case((90, 200), (32, 32)), "bfloat16", PANELS),
}
# Interpreting compiles each of them for many seconds.
NAMES = ["16, ragged", *(pytest.param(n, marks=pytest.mark.slow) for n in list(VARIANTS)[1:])]
# 8192 rows, 1024 x 4096 at 10%.
WIDE = Panels(8192, (1024, 4096), 16, 1638)


def walks(args):
    """The weight as forward walks it, and as dX does."""
    back = Walk(transposed(args.layout), args.packed, args.layout.by_row)
    return Walk(args.layout, args.packed, None), back


@pytest.mark.parametrize("name", NAMES)
def test_products_on_panels_are_the_definition(name):
    case, dtype, launch = VARIANTS[name]
    args = arguments(case, mask_of_kind("empty row and column", 5, case.grid), dtype, 70)
    assert panel.taken(walks(args)[0], 70, launch)
    with no_race():
        check_value(functools.partial(gpu.forward, launch=launch), args, "gelu")


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_their_gradients_are_the_definition(name):
    case, dtype, launch = VARIANTS[name]
    # The weight on its side, so that dX is the wide product.
    case = Case(case.shape[::-1], case.block)
    args = arguments(case, mask_of_kind("empty row and column", 5, case.grid), dtype, 70)
    assert panel.taken(walks(args)[1], 70, launch)
    with no_race():
        got = gpu.dx(args.dy, args.packed, args.layout, launch=launch)
    run = lambda x: reference.block_sparse_matmul(x, args.packed, args.layout)
    near(got, jax.vjp(run, args.x)[1](args.dy)[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [16, 32])
def test_every_kind_of_mask_is_the_definition(side, kind):
    case = Case((2 * side + 5, 9 * side - 3), (side, side))
    args = arguments(case, mask_of_kind(kind, 1, case.grid), "bfloat16", 130)
    assert panel.taken(walks(args)[0], 130, PANELS)
    with no_race():
        check_value(functools.partial(gpu.forward, launch=PANELS), args, "relu")


@pytest.mark.slow
@given(st.integers(1, 70), st.integers(50, 150), st.integers(1, 140), FILLS)
@settings(max_examples=8, deadline=None)
def test_every_shape_is_the_definition(k, n, rows, fill):
    case = Case((k, n), (16, 16))
    args = arguments(case, mask_of_kind(*fill, case.grid), "bfloat16", rows)
    assert panel.taken(walks(args)[0], rows, PANELS)
    with no_race():
        check_value(functools.partial(gpu.forward, launch=PANELS), args, "none")


@pytest.mark.slow
@pytest.mark.skipif(OLD, reason="jax 0.10's interpreter looks at no memory that tensor cores read")
@pytest.mark.parametrize("method", ["claim", "filled"])
def test_a_wait_that_a_ring_leaves_out_is_found(method, monkeypatch):
    def hasty(ring, step):
        stage = jax.lax.rem(step, ring.stages)
        return (stage, ring.full.at[ring.first + stage]) if method == "claim" else stage

    case = Case((80, 256), (16, 16))
    args = arguments(case, np.ones(case.grid, bool), "bfloat16", 3)
    monkeypatch.setattr(Ring, method, hasty)
    run = lambda: gpu.forward(args.x, args.packed, args.layout, None, "none", PANELS)
    assert found_race(lambda: jax.block_until_ready(run()))


# ---- Shares ----


@given(st.integers(1, 300), st.integers(1, 20))
def test_every_band_is_one_groups(columns, shares):
    count = Panels(64, (16, columns * 16), 16, 1).bands
    plan = bands.Plan(16, 1, columns, count, 1, shares, 8, 2, False)
    found = []
    for share in range(shares):
        for worker in range(WORKERS):
            found += range(*map(int, bands._part(plan, share, worker)))
    assert found == list(range(count))


@given(st.integers(1, 20000), st.integers(16, 1200), st.integers(16, 5000), st.floats(0.01, 1))
def test_shares_make_no_program_slower(count, k, n, density):
    found = Panels(count, (k, n), 16, 1)
    found = found._replace(capacity=max(1, round(density * found.grid[0] * found.grid[1])))
    parts = found.shares(132)
    assert 1 <= parts <= max(1, found.most_shares)
    assert found.rows(132, parts) <= found.rows(132, 1)


def test_panels_that_would_leave_programs_idle_are_shared():
    """One panel more than there are programs: in shares the second round is not almost empty."""
    even, odd = WIDE._replace(count=132 * 64), WIDE._replace(count=133 * 64)
    assert even.shares(132) == 1 < odd.shares(132)
    assert odd.rows(132, odd.shares(132)) < 0.85 * odd.rows(132, 1)


# ---- The rule ----


@pytest.mark.parametrize(
    ("change", "worthwhile"),
    [
        ({}, True),
        ({"shape": (1216, 4096), "capacity": 1945}, True),
        # The panel leaves room for small stages only.
        ({"shape": (1280, 4096), "capacity": 2048}, False),
        # Fewer rows of weights than of the panel.
        ({"capacity": 200}, False),
        ({"shape": (1024, 256), "capacity": 102}, False),
        # Panels for few programs.
        ({"count": 256}, False),
        ({"count": 1024}, True),
        ({"side": 32, "capacity": 410}, True),
        ({"side": 32, "shape": (1280, 4096), "capacity": 512}, False),
        ({"side": 64, "capacity": 102}, False),
    ],
)
def test_a_panel_is_worthwhile_where_it_fits_and_is_read_often(change, worthwhile):
    assert WIDE._replace(**change).worthwhile(132) == worthwhile


def test_a_launch_says_which_blocks_take_panels():
    call = Call("forward", 8192, (256, 4096), (16, 16), 410, "bfloat16")
    walk = Walk(call.layout, jnp.zeros((410, 16, 16), "bfloat16"), None)
    assert panel.taken(walk, 8192, gpu.HOPPER)
    assert not panel.taken(walk, 8192, gpu.HOPPER._replace(panels=()))
    window = forwards(call.layout, geometry_of((8, 8, 256), (1, 1), (1, 1), "SAME"))
    assert not panel.taken(walk._replace(window=window), 8192, gpu.HOPPER)


@pytest.mark.parametrize("verb", ["forward", "dx"])
def test_the_model_foresees_what_a_panel_saves(verb):
    def ratio(features, density, side=16):
        shape = (features, 4096) if verb == "forward" else (4096, features)
        entry = Entry(verb, 8192, shape, (side, side), "bfloat16", None, {})
        return model.predicted("cuda", entry.at(density))

    for density in (0.3, 0.2, 0.1):
        assert ratio(1024, density) > 1.2 * ratio(1536, density)
    # Blocks of 32 do not take panels unasked.
    assert ratio(1024, 0.2, 32) == pytest.approx(ratio(1536, 0.2, 32), rel=0.1)


@pytest.mark.parametrize("verb", ["forward", "dx"])
def test_a_panel_lowers_to_one_kernel_without_a_transposed_x(verb):
    shape = (1024, 4096) if verb == "forward" else (4096, 1024)
    case = Case(shape, (16, 16))
    args = arguments(case, np.random.default_rng(0).random(case.grid) < 0.1, "bfloat16", 2)
    run = {"forward": lambda x, *a: gpu.forward(x, *a, None, "gelu"), "dx": gpu.dx}[verb]
    text = custom_calls("cuda", run, jnp.zeros((8192, 1024), "bfloat16"), args.packed, args.layout)
    assert text.count("stablehlo.custom_call @mosaic_gpu") == 1
    assert "block_sparse_panels" in text and "stablehlo.transpose" not in text
