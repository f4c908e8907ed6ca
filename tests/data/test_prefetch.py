"""Reading ahead changes nothing but the time: order, errors and ends are those of the items."""

import itertools
import threading
import time

import pytest

from sparsity.data.prefetch import ahead


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.mark.parametrize("depth", [1, 3])
def test_items_come_in_order_and_end(depth):
    assert list(ahead(iter(range(20)), lambda i: 2 * i, depth)) == list(range(0, 40, 2))


def test_items_are_made_before_they_are_asked_for_up_to_the_depth():
    made = []
    stream = ahead(itertools.count(), lambda i: made.append(i) or i, 2)
    assert next(stream) == 0
    # one handed over, two ready, one that waits for its place
    assert until(lambda: len(made) == 4)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]
    stream.close()


@pytest.mark.parametrize("where", ["items", "make"])
def test_an_error_comes_in_its_place(where):
    def items():
        yield from range(3)
        if where == "items":
            raise OSError("the disk is gone")
        yield 3

    def make(i):
        if i == 3:
            raise OSError("the disk is gone")
        return i

    stream = ahead(items(), make, 1)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)


@pytest.mark.parametrize("end", ["closed", "dropped"])
def test_thread_and_items_end_with_the_reader(end):
    closed, before = [], threading.active_count()

    def items():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    stream = ahead(items(), lambda i: i, 2)
    next(stream)
    assert threading.active_count() == before + 1
    if end == "closed":
        stream.close()
    del stream
    assert until(lambda: threading.active_count() == before) and closed
