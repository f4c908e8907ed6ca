"""What is seen of a picture is drawn as the papers say, and is a function of seed, epoch and picture."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.data.crops import RATIO, draws, middle_part, random_part

sizes = st.sampled_from([(1, 1), (2, 300), (300, 2), (500, 375), (64, 64), (37, 91)])


def parts(count, width, height):
    return np.array([random_part(draws(0, 0, i), width, height) for i in range(count)])


@given(sizes, st.integers(0, 10**6))
def test_a_random_part_lies_inside_and_is_not_empty(size, index):
    left, upper, right, lower = random_part(draws(3, 1, index), *size)
    assert 0 <= left < right <= size[0] and 0 <= upper < lower <= size[1]


def test_area_and_log_ratio_are_uniform_where_every_part_fits():
    """In a square, parts up to 3/4 of the area fit at every ratio, and so at the first try."""
    found = parts(4000, 1000, 1000)
    across, down = found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]
    area, ratio = across * down / 1e6, np.log(across / down) / math.log(RATIO[1])
    small = area < 0.74
    assert 0.079 < area.min() < 0.085
    assert np.abs(np.quantile(area[small], [0.25, 0.5, 0.75]) - [0.245, 0.41, 0.575]).max() < 0.03
    assert np.abs(np.quantile(ratio[small], [0.25, 0.5, 0.75]) - [-0.5, 0, 0.5]).max() < 0.08


def test_every_place_that_fits_is_taken():
    found = parts(3000, 8, 8)
    for edge, most in ((0, 0), (1, 0)):
        assert found[:, edge].min() == most
    assert (found[:, 2].max(), found[:, 3].max()) == (8, 8)


@pytest.mark.parametrize(("size", "shape"), [((2000, 10), (13, 10)), ((10, 2000), (10, 13))])
def test_a_picture_that_no_part_fits_gives_its_middle(size, shape):
    left, upper, right, lower = random_part(iter([0.99] * 100), *size)
    assert (round(right - left), round(lower - upper)) == shape
    assert left + right == size[0] and upper + lower == size[1]


def test_the_middle_is_224_of_the_shorter_side_at_256():
    assert middle_part(512, 256) == (144, 16, 368, 240)
    assert middle_part(256, 1024) == (16, 400, 240, 624)


def test_draws_are_a_function_of_seed_epoch_and_picture():
    def first(*key):
        return list(itertools.islice(draws(*key), 5))

    assert first(1, 2, 3) == first(1, 2, 3)
    keys = [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (2, 1, 3)]
    assert len({tuple(first(*key)) for key in keys}) == len(keys)
    # They stay what they are in every version: runs resume with the same crops.
    assert first(0, 0, 0)[0] == pytest.approx(0.6369616873214543, abs=0)
