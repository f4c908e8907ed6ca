"""What ends one process of a run ends all of them, in words."""

import resource

import pytest

from tests.experiments.processes.together import (
    commands,
    ended,
    said,
    saved,
    started,
    status,
    wait_for,
)

GIVEN = [
    "--config=configs/digits.py:magnitude,plan=gradual",
    "--config.steps=100000",
    "--config.log_every=20",
    "--config.save_every=40",
    "--config.devices=2",
]
pytestmark = pytest.mark.slow


def both(first, second, words):
    """The exit statuses of two processes of one run, and what each has said."""
    with started([first, second], words, each=1) as processes:
        found = ended(processes)
    return found, [(words / f"{i}.txt").read_text() for i in range(2)]


def test_processes_with_other_configs_end_both_and_name_the_field(tmp_path):
    one, other = commands(GIVEN, tmp_path / "run", 2)
    found, texts = both(one, [*other, "--config.density=0.2"], tmp_path / "said")
    assert found == [1, 1]
    for text in texts:
        assert "density: '0.1' at process 0, '0.2' at process 1" in text
        assert "Traceback" not in text
    assert not (tmp_path / "run").exists()


def test_a_process_that_nobody_joins_says_so(tmp_path):
    one, _ = commands(GIVEN, tmp_path / "run", 2)
    with started([[*one, "--join_timeout=3"]], tmp_path / "said", each=1) as processes:
        assert ended(processes) == [1]
    assert "the others have not come within 3 s" in said(tmp_path / "said")


def test_what_process_0_refuses_ends_both(tmp_path):
    run, words = tmp_path / "run", tmp_path / "said"
    with started(commands(GIVEN, run, 1), words, each=2) as processes:
        wait_for(processes, lambda: saved(run) >= 40, words)
        found, texts = both(*commands(GIVEN, run, 2), tmp_path / "refused")
    assert found == [1, 1]
    assert all(f"{run} is in use by process" in text for text in texts), texts
    assert all("Traceback" not in text for text in texts), texts


def test_numbers_that_are_no_longer_finite_end_both(tmp_path):
    run = tmp_path / "run"
    steep = ["--config.optimizer.learning_rate=1e30", "--config.log_every=1"]
    found, texts = both(*commands(GIVEN, run, 2, *steep), tmp_path / "said")
    assert found == [1, 1], texts
    assert status(run)["status"] == "diverged"
    assert all("Traceback" not in text for text in texts), texts


def test_a_full_disk_at_process_0_ends_both(tmp_path):
    run, words = tmp_path / "run", tmp_path / "said"
    with started(commands(GIVEN, run, 2), words, each=1) as processes:
        wait_for(processes, lambda: saved(run) >= 40, words)
        # Smaller than the arrays of a checkpoint, larger than what is said and the status.
        resource.prlimit(processes[0].pid, resource.RLIMIT_FSIZE, (50_000, 50_000))
        assert ended(processes) == [1, 1], said(words)
    assert "process 1 of 2 ends: process 0 of 2 ended: OSError" in said(words)
    assert "not saved, older checkpoints are kept" in said(words)
    assert status(run)["status"] == "failed" and saved(run) >= 40
