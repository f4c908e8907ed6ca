"""A directory is of one run at a time: a second is refused while the first lives, and not after."""

import json
import signal
import time

import pytest

from experiments.running.launch import Session, launch
from experiments.running.workdir import Workdir, claimed, in_use
from sparsity.train import checkpoint
from tests.experiments.faults.processes import flags, said, start

LONG = flags("magnitude,plan=gradual", "steps=100000", "save_every=50")


@pytest.mark.slow
def test_a_second_process_is_refused_while_the_first_lives_and_not_after_it_was_killed(tmp_path):
    run, cache = Workdir(tmp_path / "run"), tmp_path / "cache"
    first = start(LONG, run.path, cache)
    try:
        while first.poll() is None and not checkpoint.latest(run.checkpoints):
            time.sleep(0.01)
        assert first.poll() is None and in_use(run), said(run.path).read_text()
        second = start(LONG, run.path, cache)
        assert second.wait(timeout=100) == 1
        words = said(run.path).read_text()
        assert f"{run.path} is in use by process {first.pid} on " in words
        assert "wait for its end, or take another directory" in words and "Traceback" not in words
        assert first.poll() is None and json.loads(run.status.read_text())["status"] == "running"
        first.send_signal(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL and not in_use(run)
        third = start(LONG, run.path, cache)
        while third.poll() is None and "going on from step" not in said(run.path).read_text():
            time.sleep(0.01)
        assert third.poll() is None and in_use(run)
        third.kill()
        third.wait()
    finally:
        first.kill()


def test_one_process_has_a_directory_once_by_whatever_name(config_of, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with claimed(Workdir(tmp_path / "run")):
        assert in_use(Workdir(tmp_path / "link"))
        with pytest.raises(ValueError, match="is in use by process"):
            launch(config_of(), tmp_path / "link", Session(say=lambda text: None))
    assert not in_use(Workdir(tmp_path / "link"))
