"""Live blocks out of dense storage and back: what packing means, with gathers alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.kernels.blocks import pack, unpack
from sparsity.kernels.layout import from_mask, mask_of
from sparsity.kernels.storage import live_blocks, places, spread_blocks

SHAPES = [((24, 16), (8, 8), 3), ((20, 13), (8, 4), 5), ((5, 7), (1, 1), 9), ((16, 8), (8, 8), 1)]


def layouts(shape, block, live):
    """Two layouts of one capacity: full, and with room to spare."""
    rows, cols = -(-shape[0] // block[0]), -(-shape[1] // block[1])
    live = min(live, rows * cols)
    order = np.random.default_rng(0).permutation(rows * cols).reshape(rows, cols)
    return [from_mask(order < n, shape, block, live) for n in (live, live - 1)]


def gradient(take, w, layout, dy):
    return jax.vjp(lambda w: take(w, layout), w)[1](dy)[0]


@pytest.mark.parametrize(("shape", "block", "live"), SHAPES)
def test_gathers_give_what_packing_and_unpacking_give_and_their_gradients(shape, block, live):
    w = jax.random.normal(jax.random.key(0), shape)
    for layout in layouts(shape, block, live):
        packed = pack(w, layout)
        np.testing.assert_array_equal(live_blocks(w, layout), packed)
        np.testing.assert_array_equal(spread_blocks(packed, layout), unpack(packed, layout))
        back = [gradient(take, w, layout, packed) for take in (live_blocks, pack)]
        np.testing.assert_array_equal(*back)
        dead = ~np.kron(np.asarray(mask_of(layout)), np.ones(block, bool))[: shape[0], : shape[1]]
        assert (np.asarray(back[0])[dead] == 0).all()


def test_a_place_is_where_a_block_is_packed_and_none_is_the_capacity():
    layout = from_mask(np.array([[1, 0], [1, 1]], bool), (4, 4), (2, 2), 5)
    assert places(layout).tolist() == [[0, 5], [1, 2]]


def test_numbers_of_dead_blocks_do_not_leak():
    layout = from_mask(np.array([[1, 0]], bool), (2, 4), (2, 2))
    w = jnp.array([[1.0, 1.0, jnp.nan, jnp.nan]] * 2)
    assert np.isfinite(live_blocks(w, layout)).all()
    assert np.isfinite(spread_blocks(live_blocks(w, layout), layout)).all()
