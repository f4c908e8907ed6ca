"""The order of the data is a function of (seed, step)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.data import epoch_order, eval_batches, indices, steps_per_epoch

seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 60), st.integers(1, 60)).map(lambda p: (max(p), min(p)))


@given(seeds, st.integers(0, 50), st.integers(0, 200))
def test_an_epoch_visits_each_index_once(seed, epoch, n):
    order = epoch_order(seed, epoch, n)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


@given(seeds, st.integers(0, 5), sizes)
def test_the_steps_of_an_epoch_share_no_index(seed, epoch, size):
    n, batch = size
    steps = steps_per_epoch(n, batch)
    drawn = [indices(seed, epoch * steps + i, n, batch) for i in range(steps)]
    assert all(d.shape == (batch,) and d.dtype == np.int32 for d in drawn)
    flat = np.concatenate(drawn)
    assert len(set(flat.tolist())) == steps * batch and n - len(flat) < batch
    np.testing.assert_array_equal(flat, epoch_order(seed, epoch, n)[: len(flat)])


@given(seeds, st.lists(st.integers(0, 300), min_size=1, max_size=20), sizes)
def test_a_step_draws_the_same_whatever_was_drawn_before(seed, path, size):
    first = {step: indices(seed, step, *size).copy() for step in path}
    epoch_order.cache_clear()
    for step in reversed(path):
        np.testing.assert_array_equal(indices(seed, step, *size), first[step])


def test_orders_differ_from_epoch_to_epoch_and_seed_to_seed():
    orders = {tuple(epoch_order(seed, epoch, 50)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_every_image_is_dropped_from_some_epochs_only():
    dropped = [set(epoch_order(0, epoch, 10)[9:].tolist()) for epoch in range(100)]
    assert set.union(*dropped) == set(range(10))


def test_places_are_uniform():
    places = np.stack([np.argsort(epoch_order(7, epoch, 8)) for epoch in range(4000)])
    counts = np.stack([np.bincount(column, minlength=8) for column in places.T])
    # 500 expected in each of 64 cells with a deviation of 21: five of them
    assert np.abs(counts - 500).max() < 105


def test_the_order_is_that_of_every_version():
    # raw bits of PCG64 and a stable sort: neither may change under a run that resumes
    assert epoch_order(0, 0, 8).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]
    assert epoch_order(3, 1, 8).tolist() == [0, 6, 2, 1, 3, 7, 4, 5]


def test_an_order_cannot_be_overwritten():
    with pytest.raises(ValueError, match="read-only"):
        epoch_order(0, 0, 8)[0] = 1


@given(st.integers(1, 200), st.integers(1, 70))
def test_evaluation_counts_every_image_once(n, batch):
    rows, weights = eval_batches(n, batch)
    assert rows.shape == weights.shape == (-(-n // batch), batch)
    assert (rows.dtype, weights.dtype) == (np.int32, np.float32)
    counts = np.bincount(rows.ravel(), weights.ravel(), minlength=n)
    np.testing.assert_array_equal(counts, np.ones(n))
    assert set(np.unique(weights)) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: indices(0, 0, 10, 11), "batch of 11 cannot be drawn from 10"),
        (lambda: indices(0, 0, 10, 0), "batch of 0"),
        (lambda: indices(0, -1, 10, 5), "epoch are at least 0"),
        (lambda: indices(-1, 0, 10, 5), "seed and epoch are at least 0, given were -1"),
        (lambda: steps_per_epoch(0, 1), "from 0 images"),
        (lambda: eval_batches(0, 4), "0 images in batches of 4"),
        (lambda: eval_batches(4, 0), "4 images in batches of 0"),
    ],
)
def test_orders_that_do_not_exist_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
