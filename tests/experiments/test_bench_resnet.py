"""Rounds end with the time that is given to them, and three are always done."""

import time

import pytest

from experiments.bench_resnet import turns


@pytest.mark.parametrize(("rounds", "seconds", "done"), [(5, 60.0, 5), (50, 0.0, 3), (3, 0.0, 3)])
def test_rounds_end_with_their_time_and_each_program_is_in_all_of_them(rounds, seconds, done):
    called = []
    timed = {name: lambda name=name: called.append(name) for name in "ab"}
    found = turns(timed, rounds, seconds)
    assert called == list("ab") * done
    assert [list(one) for one in found] == [["a", "b"]] * done


def test_waiting_counts_on_the_wall_and_not_for_the_processor():
    (wall, busy), *_ = (one["a"] for one in turns({"a": lambda: time.sleep(0.2)}, 3, 0.0))
    assert wall >= 0.2 > busy >= 0
