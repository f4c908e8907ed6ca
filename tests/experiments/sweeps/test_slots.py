"""Slots share out cores, accelerators and memory, each once."""

import os

import pytest

from experiments.sweeps import slots
from experiments.sweeps.slots import Wish

CORES = sorted(os.sched_getaffinity(0))


def test_cores_are_shared_out_and_memory_bounds_the_slots():
    found = slots.placed(Wish(gib=1e-6), [])
    assert sorted(core for slot in found for core in slot.cores) == CORES
    assert len(found) == len(CORES)
    assert len(slots.placed(Wish(gib=1e6), [])) == 1
    # Who counts the workers gets as many, on cores that they share where there are too few.
    assert len(slots.placed(Wish(workers=len(CORES) + 3, gib=1e6), [])) == len(CORES) + 3


@pytest.mark.parametrize(
    ("wish", "visible", "share"),
    [
        (Wish(), ["0", "1", "2", "3"], "0.900"),
        (Wish(per_device=2), ["0", "1", "2", "3"] * 2, "0.450"),
        (Wish(devices=2), ["0,1", "2,3"], "0.900"),
        (Wish(devices=3), ["0,1,2"], "0.900"),
        (Wish(workers=3), ["0", "1", "2"], "0.900"),
    ],
)
def test_each_run_sees_its_own_accelerators_and_its_share_of_their_memory(wish, visible, share):
    found = slots.placed(wish, ["0", "1", "2", "3"])
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in found] == visible
    assert {slot.environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] for slot in found} == {share}
    assert all(slot.cores for slot in found)


def test_more_accelerators_than_there_are_is_refused():
    with pytest.raises(ValueError, match="a run takes 3 accelerators, and there are 2"):
        slots.placed(Wish(devices=3), ["0", "1"])
