"""A layout is its mask: what it holds, in which order, and that new masks compile nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.kernels.blocks import pack, transposed_blocks, unpack
from sparsity.kernels.chunks import chunks
from sparsity.kernels.layout import Layout, from_mask, mask_of, transposed
from sparsity.kernels.validation import validate
from tests.kernels.cases import CASES, FILLS, QUICK, Case, entries, layout_of, mask_of_kind, normal

EVEN = Case((64, 96), (16, 16))
cases = st.sampled_from(QUICK)


@given(cases, FILLS)
def test_a_layout_is_its_mask(name, fill):
    case = CASES[name]
    mask = mask_of_kind(*fill, case.grid)
    layout = layout_of(case, mask)
    validate(layout)
    assert int(layout.count) == mask.sum()
    np.testing.assert_array_equal(mask_of(layout), mask)


@given(cases, FILLS)
def test_pack_and_unpack_keep_what_lives(name, fill):
    case = CASES[name]
    mask = mask_of_kind(*fill, case.grid)
    layout = layout_of(case, mask)
    w = normal(fill[1], *case.shape)
    packed = pack(w, layout)
    assert not np.any(packed[int(mask.sum()) :])
    np.testing.assert_array_equal(unpack(packed, layout), w * entries(mask, case))
    np.testing.assert_array_equal(pack(unpack(packed, layout), layout), packed)


@given(cases, FILLS)
def test_the_transposed_layout_is_that_of_the_transpose(name, fill):
    case = CASES[name]
    mask = mask_of_kind(*fill, case.grid)
    layout = layout_of(case, mask)
    turned = transposed(layout)
    asked = from_mask(mask.T, case.shape[::-1], case.block[::-1], case.capacity)
    for array, other in zip(jax.tree.leaves(turned), jax.tree.leaves(asked), strict=True):
        np.testing.assert_array_equal(array, other)
    packed = pack(normal(fill[1], *case.shape), layout)
    blocks = transposed_blocks(packed, layout)
    np.testing.assert_array_equal(unpack(blocks, turned), unpack(packed, layout).T)


@given(cases, FILLS, st.sampled_from([1, 3, 8]))
def test_chunks_cover_every_live_block_once_and_every_column(name, fill, size):
    case = CASES[name]
    layout = layout_of(case, mask_of_kind(*fill, case.grid))
    made = chunks(layout, size)
    assert np.all(np.diff(made.col) >= 0) and np.all(made.length <= size)
    assert set(np.asarray(made.col).tolist()) == set(range(case.grid[1]))
    runs = zip(*map(np.asarray, made), strict=True)
    covered = [(p, col) for col, first, n in runs for p in range(first, first + n)]
    cols = np.asarray(layout.cols)[: int(layout.count)].tolist()
    assert covered == list(enumerate(cols))


@pytest.mark.slow
@given(st.sampled_from(sorted(CASES)), FILLS)
def test_every_case_obeys_these_laws(name, fill):
    for law in (
        test_a_layout_is_its_mask,
        test_pack_and_unpack_keep_what_lives,
        test_the_transposed_layout_is_that_of_the_transpose,
    ):
        law.hypothesis.inner_test(name, fill)
    for size in (1, 3, 8):
        test_chunks_cover_every_live_block_once_and_every_column.hypothesis.inner_test(
            name, fill, size
        )


def test_new_masks_of_a_capacity_compile_nothing():
    traces = []

    @jax.jit
    def build(mask, w):
        traces.append(mask)
        layout = from_mask(mask, EVEN.shape, EVEN.block, 12)
        return layout, pack(w, layout)

    @jax.jit
    def use(layout, packed):
        traces.append(packed)
        return unpack(packed, layout)

    rng = np.random.default_rng(0)
    for live in (0, 1, 7, 12):
        mask = rng.permutation(np.arange(24) < live).reshape(4, 6)
        layout, packed = build(mask, jnp.ones(EVEN.shape))
        assert int(use(layout, packed).sum()) == live * 256
    assert len(traces) == 2 and build._cache_size() == use._cache_size() == 1


def test_a_layout_is_built_on_the_device():
    """Nothing in its program calls the host, and nothing sorts."""
    build = jax.jit(lambda mask: from_mask(mask, EVEN.shape, EVEN.block, 12))
    with jax.transfer_guard("disallow"):
        text = build.lower(jax.ShapeDtypeStruct(EVEN.grid, bool)).as_text()
    assert "callback" not in text and "stablehlo.sort" not in text


def test_stacked_masks_give_stacked_layouts():
    masks = np.random.default_rng(1).random((3, *EVEN.grid)) < 0.4
    stacked = jax.vmap(lambda m: from_mask(m, EVEN.shape, EVEN.block, 24))(masks)
    for i, mask in enumerate(masks):
        one = jax.tree.map(lambda a, i=i: a[i], stacked)
        validate(one)
        np.testing.assert_array_equal(mask_of(one), mask)


def test_a_traced_mask_beyond_the_capacity_is_nan_and_named():
    build = jax.jit(lambda mask, w: (built := from_mask(mask, (32, 32), (8, 8), 3), pack(w, built)))
    layout, packed = build(np.eye(4, dtype=bool), jnp.ones((32, 32)))
    assert np.all(np.isnan(packed))
    with pytest.raises(ValueError, match="4 live blocks and room for 3"):
        validate(layout)


@pytest.mark.parametrize(
    ("mask", "shape", "block", "capacity", "words"),
    [
        (np.ones((4, 4)), (64, 96), (16, 16), None, r"a mask of \(4, 4\).*grid of \(4, 6\)"),
        (np.ones(4), (64, 96), (16, 16), None, "does not fit"),
        (np.ones((4, 6)), (64, 96), (16, 0), None, "two positive integers"),
        (np.ones((4, 6)), (64.0, 96), (16, 16), None, "two positive integers"),
        (np.ones((4, 6)), (64, 96), 16, None, "block is two positive integers"),
        (np.ones((4, 6)), (64, 96), (16, 16), 23, "24 live blocks, the layout has room for 23"),
        (np.zeros((4, 6)), (64, 96), (16, 16), 0, "capacity is a positive integer, not 0"),
        (np.zeros((4, 6)), (64, 96), (16, 16), True, "capacity is a positive integer"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_in_words(mask, shape, block, capacity, words):
    with pytest.raises(ValueError, match=words):
        from_mask(mask, shape, block, capacity)


def test_a_traced_mask_needs_a_capacity():
    with pytest.raises(ValueError, match="cannot be read from a traced mask"):
        jax.jit(lambda mask: from_mask(mask, EVEN.shape, EVEN.block))(np.ones(EVEN.grid))


def test_weights_of_another_shape_are_refused():
    layout = layout_of(EVEN, np.ones(EVEN.grid, bool))
    assert isinstance(layout, Layout)
    with pytest.raises(ValueError, match=r"\(96, 64\) does not fit a layout of \(64, 96\)"):
        pack(jnp.ones((96, 64)), layout)
    with pytest.raises(ValueError, match=r"asks for \(25, 16, 16\)"):
        unpack(jnp.ones((24, 16, 16)), layout)
