"""The turned weight of a convolution is the one of the gradient of its images, with the layout of its mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.kernels import taps
from sparsity.kernels.geometry import geometry_of
from sparsity.kernels.layout import from_mask, mask_of
from tests.kernels.cases import FILLS, Case, mask_of_kind
from tests.kernels.windows import WINDOWS

NAMES = ("3x3", "valid, unequal strides", "5x3, padded as is said")
turned = functools.partial(jax.jit, static_argnums=1)(taps.turned)


def case_of(name: str):
    image, kernel, strides, padding, outputs, block = WINDOWS[name]
    geometry = geometry_of(image, kernel, strides, padding)
    return geometry, Case((geometry.rows, outputs), block)


def asked_mask(mask: np.ndarray, geometry, case: Case) -> np.ndarray:
    """The turned weight's mask, a block at a time."""
    (down, along), (high, wide) = geometry.kernel, geometry.strides
    (tall, broad), inside = taps.back(geometry), geometry.image[2] // case.block[0]
    whole = mask.reshape(down, along, inside, -1)
    found = np.zeros((tall, broad, whole.shape[3], high, wide, inside), bool)
    for (r, s, channels, outputs), alive in np.ndenumerate(whole):
        back = tall - 1 - r // high, broad - 1 - s // wide
        found[(*back, outputs, r % high, s % wide, channels)] = alive
    return found.reshape(tall * broad * whole.shape[3], -1)


@given(st.sampled_from(NAMES), FILLS)
def test_the_turned_layout_is_that_of_its_mask(name, fill):
    geometry, case = case_of(name)
    mask = mask_of_kind(*fill, case.grid)
    got, _ = turned(from_mask(mask, *case, case.capacity), geometry)
    asked = from_mask(asked_mask(mask, geometry, case), got.shape, case.block[::-1], case.capacity)
    for array, other in zip(jax.tree.leaves(got), jax.tree.leaves(asked), strict=True):
        np.testing.assert_array_equal(array, other)


@given(st.sampled_from(NAMES), FILLS)
def test_every_block_is_where_it_is_said_to_be_packed(name, fill):
    geometry, case = case_of(name)
    mask = mask_of_kind(*fill, case.grid)
    layout = from_mask(mask, *case, case.capacity)
    got, whose = turned(layout, geometry)
    assert sorted(np.asarray(whose)) == list(range(case.capacity))
    for place in range(int(layout.count)):
        one = np.zeros(case.grid, bool)
        one[layout.rows[whose[place]], layout.cols[whose[place]]] = True
        there = np.zeros(got.grid, bool)
        there[got.rows[place], got.cols[place]] = True
        np.testing.assert_array_equal(there, asked_mask(one, geometry, case))


def test_new_masks_compile_nothing():
    geometry, case = case_of("3x3")
    for seed in range(3):
        mask = mask_of_kind("random", seed, case.grid)
        jax.block_until_ready(turned(from_mask(mask, *case, case.capacity), geometry))
    assert turned._cache_size() <= len(NAMES)


def test_a_layout_with_too_many_blocks_for_its_room_stays_within_it():
    geometry, case = case_of("3x3")
    build = jax.jit(lambda mask: from_mask(mask, *case, 5))
    got, whose = turned(build(jnp.ones(case.grid, bool)), geometry)
    assert int(got.count) > got.capacity and int(mask_of(got).sum()) <= 5
    assert int(whose.min()) >= 0 and int(whose.max()) < 5 and int(got.col_starts.max()) <= 5


@pytest.mark.parametrize("rows", [16, 32])
def test_blocks_over_several_taps_are_refused(rows):
    geometry = geometry_of((6, 6, 24), (3, 3), (1, 1), "SAME")
    case = Case((geometry.rows, 32), (rows, 16))
    layout = from_mask(np.ones(case.grid, bool), *case, case.capacity)
    assert f"blocks of {rows} rows do not divide the 24 channels" in taps.refusal(layout, geometry)
