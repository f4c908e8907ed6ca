"""A run of several processes comes to what one process comes to, however it was stopped on the way."""

import json
import signal
import time

import pytest

from experiments.running.workdir import Workdir
from tests.experiments.processes.together import (
    LOST,
    agreement,
    commands,
    ended,
    said,
    saved,
    started,
    status,
    wait_for,
    whole,
)

GIVEN = [
    "--config=configs/digits.py:magnitude,plan=gradual",
    "--config.steps=101",
    "--config.log_every=10",
    "--config.save_every=20",
    "--config.devices=4",
]
LONG = [*GIVEN, "--config.steps=100000"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process with four devices."""
    return whole(GIVEN, tmp_path_factory.mktemp("alone") / "run", count=1, each=4)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The run of two processes with two devices each."""
    return whole(GIVEN, tmp_path_factory.mktemp("pair") / "run", count=2, each=2)


def files(run):
    return {name: (run / name).read_bytes() for name in ("model.safetensors", "metrics.jsonl")}


def same_numbers(one, other):
    difference, agreeing = agreement(one, other)
    assert difference < 1e-3 and agreeing >= 0.99
    summaries = [json.loads(Workdir(run).summary.read_text()) for run in (one, other)]
    assert summaries[0]["parameters_live"] == summaries[1]["parameters_live"]


def test_two_processes_come_to_the_numbers_of_one_with_as_many_devices(alone, pair):
    same_numbers(alone, pair)
    assert {path.name for path in pair.iterdir()} == {path.name for path in alone.iterdir()}
    assert status(pair)["processes"] == 2 and status(pair)["devices"] == 4


def test_four_processes_come_to_the_numbers_of_one(alone, tmp_path):
    same_numbers(alone, whole(GIVEN, tmp_path / "run", count=4, each=1))


def test_weights_that_lie_in_parts_on_two_processes_come_to_the_numbers_of_one(alone, tmp_path):
    shared = [*GIVEN, "--config.mesh.fsdp=2", "--config.mesh.model=2"]
    run = whole(shared, tmp_path / "run", count=2, each=2)
    same_numbers(alone, run)  # reads the checkpoint in this process


def test_a_signal_to_one_ends_all_at_one_step_and_they_go_on_to_the_same_bits(pair, tmp_path):
    run, words = tmp_path / "run", tmp_path / "said"
    with started(commands(GIVEN, run, 2), words, each=2) as processes:
        wait_for(processes, lambda: saved(run) >= 20, words)
        processes[1].send_signal(signal.SIGTERM)
        assert ended(processes) == [128 + signal.SIGTERM] * 2, said(words)
    assert status(run)["status"] == "preempted" and status(run)["cause"] == "SIGTERM at process 1"
    assert "Traceback" not in said(words)
    assert files(whole(GIVEN, run, count=2, each=2)) == files(pair)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_killed_it_goes_on_with_another_number_of_processes(before, after, alone, tmp_path):
    run, words = tmp_path / "run", tmp_path / "said"
    with started(commands(GIVEN, run, before), words, each=4 // before) as processes:
        wait_for(processes, lambda: saved(run) >= 20, words)
        for process in processes:
            process.kill()
        ended(processes)
    at = saved(run)
    same_numbers(alone, whole(GIVEN, run, count=after, each=4 // after))
    again = said(tmp_path / "run-said")
    assert f"going on from step {at}" in again
    assert f"processes {before} then and {after} now" in again


def test_one_that_is_killed_ends_the_other_in_words_and_in_time(tmp_path):
    run, words = tmp_path / "run", tmp_path / "said"
    with started(commands(LONG, run, 2), words, each=2) as processes:
        wait_for(processes, lambda: saved(run) >= 20, words)
        processes[1].kill()
        began = time.monotonic()
        assert ended(processes) == [1, -signal.SIGKILL], said(words)
    # Silence is noticed after LOST; the rest is for a machine that has other things to do.
    assert time.monotonic() - began < LOST + 10
    expected = f"process 1 of 2 has not been heard for {LOST} s: killed, or cut off"
    assert expected in said(words) and "the run goes on from its last checkpoint" in said(words)
    assert (status(run)["status"], status(run)["cause"]) == ("failed", expected)


@pytest.mark.parametrize(
    ("number", "words_of_it"),
    [
        (signal.SIGKILL, "is gone: killed, or cut off"),
        (signal.SIGSTOP, f"has not answered for {LOST} s: stopped, or cut off"),
    ],
)
def test_without_process_0_the_others_end_in_words_and_in_time(number, words_of_it, tmp_path):
    run, words = tmp_path / "run", tmp_path / "said"
    with started(commands(LONG, run, 4), words, each=1) as processes:
        wait_for(processes, lambda: saved(run) >= 20, words)
        processes[0].send_signal(number)
        began = time.monotonic()
        assert ended(processes[1:]) == [1] * 3, said(words)
    assert time.monotonic() - began < (LOST if number == signal.SIGSTOP else 0) + 10
    for index in (1, 2, 3):
        text = (words / f"{index}.txt").read_text()
        ends = f"process {index} of 4 ends: process 0, which holds the notes, {words_of_it}"
        assert ends in text and "the run goes on from its last checkpoint" in text
        assert "Terminating process" not in text and "Check failure" not in text, text
