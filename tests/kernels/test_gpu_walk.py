"""What the GPU's kernels are told to do: each live block once, each tile once, in like shares."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity.kernels.gpu.gradient import _splits
from sparsity.kernels.gpu.persistent import Axis, Launch
from sparsity.kernels.gpu.tiles import _place
from sparsity.kernels.gpu.walk import runs_of
from tests.kernels.cases import FILLS, Case, layout_of, mask_of_kind

CASE = Case((96, 80), (16, 16))


@given(FILLS, st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=30, deadline=None)
def test_runs_hold_every_live_block_once_and_stay_in_its_column(fill, size):
    layout = layout_of(CASE, mask_of_kind(*fill, CASE.grid))
    runs, count = runs_of(layout, size), int(layout.count)
    used = int(runs.starts[-1])
    found = []
    for col, first, length in zip(*(np.asarray(a)[:used] for a in runs[1:]), strict=True):
        assert 1 <= length <= size
        places = range(first, first + length)
        assert all(int(layout.cols[place]) == col for place in places)
        found += places
    assert sorted(found) == list(range(count))


@pytest.mark.parametrize("programs", [1, 7, 12, 132])
@pytest.mark.parametrize("columns", [1, 5, 12, 32])
def test_every_tile_and_column_is_taken_once(programs, columns):
    tiles, order = 6, np.random.default_rng(0).permutation(columns)
    plan = SimpleNamespace(columns=columns)
    refs = SimpleNamespace(order=jnp.asarray(order), starts=jnp.arange(columns + 1))
    items = [_place(plan, Launch(programs), refs, jnp.int32(i)) for i in range(tiles * columns)]
    found = {(int(item.tile), int(item.column)) for item in items}
    assert found == {(t, c) for t in range(tiles) for c in range(columns)}


def test_programs_get_like_shares():
    """32 columns of unlike counts over 132 programs: unsorted, one in four would get the heaviest."""
    counts = np.random.default_rng(1).binomial(32, 0.1, 32)
    starts = jnp.asarray(np.concatenate([[0], np.cumsum(counts)]))
    shares = {}
    for name, order in (("sorted", np.argsort(-counts)), ("as they come", np.arange(32))):
        refs = SimpleNamespace(order=jnp.asarray(order), starts=starts)
        work = np.zeros(132)
        for item in range(33 * 32):
            at = _place(SimpleNamespace(columns=32), Launch(), refs, jnp.int32(item))
            work[item % 132] += int(at.end - at.first)
        shares[name] = work.max() / work.mean()
    assert shares["sorted"] < 1.05 < shares["as they come"]


@given(st.integers(0, 2000), st.integers(1, 600), st.integers(1, 132))
def test_a_split_batch_has_no_longer_rounds(runs, steps, programs):
    parts = _splits(runs, steps, programs)
    rounds = lambda n: -(-max(1, runs) * n // programs) / n
    assert 1 <= parts <= 8 and rounds(parts) <= rounds(1)
    assert parts == 1 or steps // parts >= 16


def test_an_axis_is_padded_only_as_copies_need_it():
    hardware, interpreted = Launch(), Launch(interpret=object())
    axis = Axis(size=700, copied=768, box=128, multiple=8)
    assert (hardware.reach(axis), interpreted.reach(axis)) == (704, 768)
    assert hardware.reach(axis._replace(size=33)) == 128
