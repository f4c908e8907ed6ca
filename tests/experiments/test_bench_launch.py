"""The benchmark of what surrounds the steps: medians in turn, what is kept is whole, shares are shares."""

import sys

import numpy as np
import pytest

from experiments.benchmarks import keeping, starting
from experiments.benchmarks.clocks import medians


def test_medians_are_taken_in_turn():
    called, values = [], iter([5.0, 1.0, 9.0, 2.0, 4.0, 3.0])

    def value(name):
        called.append(name)
        return next(values)

    assert medians(3, {"a": lambda: value("a"), "b": lambda: value("b")}) == {"a": 5.0, "b": 2.0}
    assert called == list("ababab")


def test_a_process_that_fails_says_why():
    with pytest.raises(ValueError, match="no module of ours"):
        starting.until([sys.executable, "-c", "raise OSError('no module of ours')"])


def test_a_process_is_timed_to_what_it_has_begun_and_then_ended(tmp_path):
    mark = tmp_path / "mark"
    code = f"import time; open({str(mark)!r}, 'w').close(); time.sleep(600)"
    seconds = starting.until([sys.executable, "-c", code], mark.exists)
    assert mark.exists() and 0 < seconds < 300


def test_a_process_is_charged_with_its_work_and_not_with_what_it_waits_for():
    busy = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    charged = lambda code: starting.spent(lambda: starting.until([sys.executable, "-c", code]))
    assert charged(busy) >= 0.5
    assert charged("import time; time.sleep(2)") < 1.5


def test_raw_arrays_are_written_whole(tmp_path):
    arrays = [np.arange(10), np.ones((3, 4), np.float32)]
    keeping.raw(tmp_path / "raw", arrays)
    for i, array in enumerate(arrays):
        np.testing.assert_array_equal(np.load(tmp_path / "raw" / f"{i}.npy"), array)


@pytest.mark.slow
def test_shares_leave_room_for_the_steps():
    found = keeping.shares(3)
    assert {one.unit for one in found} == {"%"} and len(found) == 3
    assert all(one.measured > 0 for one in found) and sum(one.measured for one in found) < 100
