"""The host pipeline's batches are a function of the step."""

import threading
import time
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity.data import indices
from sparsity.data.pipeline import batches, rows

N = 23
SOURCE = rows(np.arange(N * 4, dtype=np.uint8).reshape(N, 2, 2, 1), np.arange(N, dtype=np.int32))
seeds = st.integers(0, 1000)


def labels(*args, **kwargs):
    return [batch["label"].tolist() for batch in batches(SOURCE, *args, **kwargs)]


@given(seeds, st.integers(0, 12), st.integers(0, 6), st.integers(1, N), st.sampled_from([0, 3]))
def test_batches_are_those_of_the_order(seed, start, count, batch, workers):
    found = labels(seed, start, start + count, batch, workers=workers)
    expected = [indices(seed, step, N, batch).tolist() for step in range(start, start + count)]
    assert found == expected


@given(seeds, st.integers(0, 10), st.sampled_from([1, 4, 8]))
def test_resuming_gives_the_same_tail(seed, stop, batch):
    whole = labels(seed, 0, 10, batch, workers=2)
    assert whole[:stop] + labels(seed, stop, 10, batch, workers=0) == whole


@given(seeds, st.sampled_from([1, 2, 3, 6]))
def test_the_parts_of_all_processes_are_the_global_batch(seed, count):
    parts = [labels(seed, 2, 6, 12, process=(i, count), workers=0) for i in range(count)]
    joined = [[*chain(*step)] for step in zip(*parts, strict=True)]
    assert joined == labels(seed, 2, 6, 12, workers=0)


def test_rows_stay_together_and_keep_their_types():
    for batch in batches(SOURCE, 1, 0, 2, 10):
        assert batch["image"].shape == (10, 2, 2, 1) and batch["image"].dtype == np.uint8
        assert batch["label"].dtype == np.int32
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], 4 * batch["label"])


def test_threads_end_when_the_caller_stops_early():
    before = threading.active_count()
    stream = batches(SOURCE, 0, 0, 1000, 8, workers=4)
    next(stream)
    stream.close()
    until = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before


class Broken(list):
    def __getitem__(self, index):
        if index == 7:
            raise ValueError("row 7 cannot be read")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 3])
def test_what_a_source_raises_reaches_the_caller(workers):
    with pytest.raises(ValueError, match="row 7"):
        list(batches(Broken(SOURCE), 0, 0, 2, 10, workers=workers))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"process": (2, 2)}, "process 2 of 2 does not exist"),
        ({"process": (0, 3)}, "batch of 8 cannot be shared by 3"),
        ({"stop": -1}, "steps 0 to -1 run backwards"),
        ({"batch": 24}, "batch of 24 cannot be drawn from 23"),
        ({"start": -2}, "at least 0"),
    ],
)
def test_bad_requests_are_refused_at_the_call(kwargs, words):
    with pytest.raises(ValueError, match=words):
        batches(SOURCE, **({"seed": 0, "start": 0, "stop": 4, "batch": 8} | kwargs))
