"""The CPU's kernel: what reaches it wrong is refused, NaN is kept where it lives, threads change no bit."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.kernels import dense
from sparsity.kernels.blocks import pack
from sparsity.kernels.cpu import backend as cpu
from tests.kernels.cases import Case, layout_of, mask_of_kind, normal

ROOT = pathlib.Path(__file__).parents[2]
CASE = Case((48, 64), (16, 16))
LAYOUT = layout_of(CASE, mask_of_kind("random", 5, CASE.grid))
needs_compiler = pytest.mark.skipif(
    bool(cpu.refusal(LAYOUT, jnp.float32)), reason="there is no C++ compiler here"
)


@needs_compiler
@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rows", 3, "indices lie outside its grid"),
        ("rows", -1, "indices lie outside its grid"),
        ("cols", 4, "indices lie outside its grid"),
        ("by_row", 13, "by_row names a place that is not there"),
        ("col_starts", 40, "starts go beyond its capacity"),
        ("row_starts", 40, "starts go beyond its capacity"),
    ],
)
def test_broken_indices_are_an_error_and_no_crash(field, value, words):
    array = getattr(LAYOUT, field)
    at = -1 if field.endswith("starts") else 0
    broken = dataclasses.replace(LAYOUT, **{field: array.at[at].set(value)})
    x, packed = normal(0, 5, 48), pack(normal(1, 48, 64), LAYOUT)
    run = cpu.forward if field in ("rows", "col_starts") else cpu.dx
    args = (
        (x, packed, broken, None, "none")
        if run is cpu.forward
        else (normal(2, 5, 64), packed, broken)
    )
    with pytest.raises(jax.errors.JaxRuntimeError, match=words):
        jax.block_until_ready(run(*args))


@needs_compiler
def test_a_nan_that_lives_reaches_its_column_and_no_other():
    packed = pack(normal(1, 48, 64), LAYOUT).at[0, 0, 0].set(jnp.nan)
    for activation in ("none", "relu"):
        y = cpu.forward(normal(0, 5, 48), packed, LAYOUT, jnp.zeros(64), activation)
        hit = np.isnan(np.asarray(y)).all(0)
        first = int(LAYOUT.cols[0]) * 16
        assert np.flatnonzero(hit).tolist() == [first] and np.isnan(np.asarray(y)).sum() == 5


@needs_compiler
@pytest.mark.parametrize("block", [(32, 32), (64, 128), (20, 48)])
def test_shapes_of_several_panels_are_right(block):
    """More rows than a panel of packed x holds, and more blocks in a column than a task of dW takes."""
    case = Case((1500, 200), block)
    layout = layout_of(case, mask_of_kind("random", 1, case.grid) | (np.arange(case.grid[1]) == 0))
    packed = pack(normal(1, *case.shape), layout)
    x, dy = normal(2, 900, 1500), normal(3, 900, 200)
    for run, args in (
        ("forward", (x, packed, layout, normal(4, 200), "relu")),
        ("dx", (dy, packed, layout)),
        ("dw", (x, dy, layout)),
    ):
        got, asked = (np.asarray(getattr(module, run)(*args)) for module in (cpu, dense))
        np.testing.assert_allclose(got, asked, rtol=0, atol=2e-5 * np.abs(asked).max())


@needs_compiler
@pytest.mark.parametrize("block", [(32, 32), (44, 28)])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((480, 352), "float32"), ((500, 340), "float32"), ((500, 340), "bfloat16")],
)
def test_few_blocks_among_empty_rows_and_columns_are_right(shape, block, dtype):
    """So few that products go by rows of x: 1031, so that all threads get tasks and the last tile is a part."""
    case = Case(shape, block)
    mask = np.zeros(case.grid, bool)
    mask[[1, 4, -1], [2, 2, -1]] = True
    layout = layout_of(case, mask)
    packed = pack(normal(1, *case.shape, dtype=dtype), layout)
    x, dy = normal(2, 1031, shape[0], dtype=dtype), normal(3, 1031, shape[1], dtype=dtype)
    for run, args in (
        ("forward", (x, packed, layout, normal(4, shape[1]), "relu")),
        ("forward", (x, packed, layout, None, "none")),
        ("dx", (dy, packed, layout)),
    ):
        got, asked = (np.asarray(getattr(m, run)(*args), np.float32) for m in (cpu, dense))
        tolerance = 2e-5 if dtype == "float32" else 2e-2
        np.testing.assert_allclose(got, asked, rtol=0, atol=tolerance * np.abs(asked).max())


@needs_compiler
def test_where_no_block_lives_a_product_is_its_bias_alone():
    case = Case((96, 64), (32, 32))
    layout = layout_of(case, np.zeros(case.grid, bool))
    packed, bias = jnp.full((layout.capacity, 32, 32), jnp.nan), normal(0, 64)
    y = cpu.forward(jnp.full((1031, 96), jnp.nan), packed, layout, bias, "relu")
    assert np.array_equal(y, np.broadcast_to(np.maximum(bias, 0), (1031, 64)))


@needs_compiler
def test_a_nan_of_x_reaches_the_blocks_that_read_it_and_no_others():
    case = Case((128, 96), (32, 32))
    mask = np.zeros(case.grid, bool)
    mask[[0, 2], [0, 1]] = True
    layout = layout_of(case, mask)
    x = normal(0, 1031, 128).at[7, 70].set(jnp.nan).at[9, 40].set(jnp.nan)
    y = cpu.forward(x, pack(normal(1, 128, 96), layout), layout, None, "none")
    hit = np.zeros((1031, 96), bool)
    hit[7, 32:64] = True
    assert np.array_equal(np.isnan(y), hit)


@needs_compiler
@pytest.mark.parametrize("block", [(5, 5), (7, 3), (20, 20)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_blocks_narrower_than_vectors_are_right(block, dtype):
    """Rows lie along the vectors: more of them than a pass of dW takes, and a last vector in part."""
    case = Case((66, 41), block)
    layout = layout_of(case, mask_of_kind("random", 3, case.grid))
    packed = pack(normal(1, *case.shape, dtype=dtype), layout)
    x, dy = normal(2, 1045, 66, dtype=dtype), normal(3, 1045, 41, dtype=dtype)
    for run, args in (
        ("forward", (x, packed, layout, normal(4, 41), "relu")),
        ("dx", (dy, packed, layout)),
        ("dw", (x, dy, layout)),
    ):
        got, asked = (np.asarray(getattr(m, run)(*args), np.float32) for m in (cpu, dense))
        tolerance = 2e-5 if dtype == "float32" else 2e-2
        np.testing.assert_allclose(got, asked, rtol=0, atol=tolerance * np.abs(asked).max())


@needs_compiler
def test_the_number_of_threads_changes_no_bit():
    code = """if True:
        import hashlib, os, sys
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
        import jax, numpy as np
        from sparsity.kernels.cpu import backend as cpu
        from sparsity.kernels.blocks import pack
        from tests.kernels.cases import Case, layout_of, mask_of_kind, normal
        case = Case((320, 320), (32, 32))
        many = mask_of_kind("random", 2, case.grid)
        x, weight, found = normal(0, 1100, 320), normal(1, 320, 320), []
        for mask in (many, many & (np.arange(10)[:, None] < 2)):  # by columns, by rows
            layout = layout_of(case, mask)
            assert not cpu.refusal(layout, np.float32)
            packed = pack(weight, layout)
            found += cpu.forward(x, packed, layout, None, "none"), cpu.dx(x, packed, layout)
            found.append(cpu.dw(x, x, layout))
        print(*(hashlib.sha256(np.asarray(a).tobytes()).hexdigest() for a in found))
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-c", code]
    digests = {
        subprocess.run([*run, n], env=env, check=True, capture_output=True, text=True).stdout
        for n in ("1", "2")
    }
    assert len(digests) == 1
