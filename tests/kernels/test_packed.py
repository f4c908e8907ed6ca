"""Packed weights stand for the arrays they came from, in memory and on disk."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from sparsity.kernels import packed_files, tensors
from sparsity.kernels.blocks import pack
from sparsity.kernels.columns import columns_from, columns_of, from_array, packed_of
from sparsity.kernels.packed import Reading, array_of, matrices_of
from sparsity.kernels.validation import validate
from tests.disk import events
from tests.kernels.cases import CASES, FILLS, holed, layout_of, mask_of_kind, normal, same

CONV = Reading((3, 3, 4, 24), rows=(0, 1, 2), cols=(3,))
HEADS = Reading((32, 4, 16), rows=(0,), cols=(1, 2))
STACKED = Reading((3, 32, 24), rows=(1,), cols=(2,), stack=(0,))
INWARD = Reading((24, 3, 32), rows=(2,), cols=(0,), stack=(1,))
READINGS = {"conv": CONV, "heads": HEADS, "stacked": STACKED, "inward": INWARD}
names, readings = st.sampled_from(list(CASES)), st.sampled_from(list(READINGS))


@given(st.sampled_from(["even", "tall blocks, ragged", "wide blocks"]), FILLS)
def test_a_layout_made_on_the_host_is_that_of_the_mask(name, fill):
    case = CASES[name]
    mask = mask_of_kind(*fill, case.grid)
    w = np.asarray(normal(fill[1], *case.shape))
    matrix = from_array(w, case.block, mask)
    validate(matrix.layout)
    # One capacity for all masks of a case, so that little is compiled.
    asked = layout_of(case, mask)
    kept = lambda layout: dataclasses.replace(
        layout,
        capacity=1,
        **{n: np.asarray(getattr(layout, n))[: matrix.live] for n in ("rows", "cols", "by_row")},
    )
    same(kept(matrix.layout), kept(asked))
    same(matrix.blocks[: matrix.live], pack(jnp.asarray(w), asked)[: matrix.live])
    columns = columns_of(w, case.block, mask)
    same(columns_from(matrix), columns)
    assert not mask.any() or matrix.layout.capacity == matrix.live


@pytest.mark.parametrize("name", READINGS)
def test_an_array_of_any_reading_comes_back(name):
    reading, block = READINGS[name], (8, 5)
    w, mask = holed(1, reading, block)
    same(array_of(matrices_of(w, reading), reading), w)
    matrix = from_array(w, block, reading=reading)
    same(matrix.dense(), w)
    assert matrix.live == mask.sum() and matrix.density == mask.mean()


@given(st.integers(0, 999), readings, st.sampled_from(["float32", "bfloat16", "float16"]))
def test_a_file_gives_back_what_was_saved(seed, name, dtype):
    reading = READINGS[name]
    w, _ = holed(seed, reading, (8, 8), np.random.default_rng(seed).random())
    weights = {
        "layer/kernel": from_array(w.astype(dtype), (8, 8), reading=reading),
        "layer/bias": jnp.arange(7.0),
        "scale": jnp.float32(3),
        "none": jnp.zeros((0, 4), jnp.int8),
    }
    found, about = packed_files.decode(packed_files.encode(weights, {"step": seed}))
    same(dict(sorted(found.items())), dict(sorted(weights.items())))
    assert about == {"step": seed}


@pytest.mark.parametrize("density", [1.0, 0.5, 0.1, 0.0])
def test_a_file_is_smaller_by_the_density(tmp_path, density):
    reading = Reading((512, 512))
    mask = np.arange(256).reshape(16, 16) < 256 * density
    w = np.asarray(normal(0, *reading.shape))
    packed_files.save(tmp_path / "w", {"w": from_array(w, (32, 32), mask)})
    # An index is four bytes to a block's 4096; the header and the columns' starts are a rest.
    assert abs((tmp_path / "w").stat().st_size - mask.mean() * w.nbytes * 1.001) < 700


def test_a_power_cut_finds_all_of_a_file_on_the_disk_or_none_of_it(tmp_path, monkeypatch):
    """Its contents are brought there before it has its name, and the name after that."""
    seen = events(monkeypatch, "replace")
    packed_files.save(tmp_path / "w", {"w": jnp.zeros(3)})
    (_, unfinished), *behind = seen
    assert seen[0][0] == "sync" and behind == [("replace", unfinished), ("sync", str(tmp_path))]
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_the_format_is_that_of_the_package_safetensors():
    arrays = {
        f"{dtype}": np.asarray(np.arange(6).reshape(2, 3) % 2, jnp.dtype(dtype))
        for dtype in tensors.CODES
        if "float8" not in dtype
    }
    ours = safetensors.deserialize(tensors.encode(arrays, {"a": "b"}))
    assert {n: (e["dtype"], e["shape"], bytes(e["data"])) for n, e in ours} == {
        n: (tensors.CODES[n], [2, 3], a.tobytes()) for n, a in arrays.items()
    }
    theirs, texts = tensors.decode(safetensors.numpy.save(arrays, {"a": "b"}))
    same(dict(sorted(theirs.items())), dict(sorted(arrays.items())))
    assert texts == {"a": "b"}


# A float16 weight has no kernel on a CPU: its products run dense.
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-2)])
def test_a_product_of_a_loaded_weight_is_that_of_the_dense_one(dtype, tolerance):
    w, _ = holed(3, Reading((50, 70)), (20, 20))
    held = from_array(w.astype(dtype), (20, 20))
    loaded, _ = packed_files.decode(packed_files.encode({"w": held}))
    x = np.asarray(normal(4, 6, 50, dtype=dtype))
    assert loaded["w"].matmul(x).dtype == dtype
    np.testing.assert_allclose(
        loaded["w"].matmul(x, activation="relu"), np.maximum(x @ w, 0), atol=tolerance
    )


def test_nan_in_dead_blocks_and_beyond_edges_does_not_leak():
    w, mask = holed(5, Reading((50, 70)), (20, 20))
    spoiled = np.where(np.kron(mask[0], np.ones((20, 20), bool))[:50, :70], w, np.nan)
    matrix = from_array(spoiled, (20, 20), mask[0])
    same(matrix.dense(), w)
    columns = columns_from(matrix)
    edge = (columns.rows[:, None] * 20 + np.arange(20) >= 50)[:, :, None]
    beyond = packed_of(columns._replace(blocks=np.where(edge, np.float32(np.nan), columns.blocks)))
    x = np.asarray(normal(6, 3, 50))
    np.testing.assert_allclose(beyond.matmul(x), x @ w, atol=1e-5)
