"""A disk that is full ends the run with a clear line, and the run goes on where there is room again."""

import contextlib
import json
import os
import resource
import subprocess
import time

import pytest

from experiments.running.workdir import Workdir
from sparsity.train import checkpoint
from tests.experiments.faults.ends import same_end
from tests.experiments.faults.processes import flags, said, start, whole

TIMES = ("steps=801", "save_every=200", "log_every=10")
RUN = flags("magnitude,plan=gradual", *TIMES)
# A checkpoint is larger than this, and what the run writes between two is smaller.
ROOM = 400_000


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run that always had room, beside a cache of what it has compiled."""
    folder = tmp_path_factory.mktemp("room")
    return whole(RUN, folder / "reference", folder / "cache")


@contextlib.contextmanager
def small_disk(folder):
    """The folder as a disk of its own, of a few megabytes; skips where none may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    tried = subprocess.run(mount, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no disk can be mounted: {tried.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder, room):
    """Takes the disk but for so many bytes."""
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while os.statvfs(folder).f_bavail * 4096 > room:
            file.write(bytes(4096))


def wait_for(process, run, step):
    """Until the run has saved that step."""
    while process.poll() is None and (checkpoint.latest(run.checkpoints) or 0) < step:
        time.sleep(0.002)
    assert process.poll() is None, said(run.path).read_text()


def last_line(run):
    return said(run.path).read_text().splitlines()[-2]  # the last says where the config is from


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "words"),
    [(0, "No space left on device"), (ROOM, "not saved, older checkpoints are kept")],
)
def test_a_full_disk_ends_the_run_in_a_line_and_it_goes_on_where_there_is_room(
    reference, tmp_path, room, words
):
    cache = reference.with_name("cache")
    with small_disk(tmp_path / "disk") as disk:
        run = Workdir(disk / "run")
        process = start(RUN, run.path, cache)
        wait_for(process, run, 200)
        fill(disk, room)
        assert process.wait(timeout=60) == 1
        assert words in last_line(run) and "Traceback" not in said(run.path).read_text()
        assert checkpoint.latest(run.checkpoints) >= 200
        (disk / "filler").unlink()
        same_end(whole(RUN, run.path, cache), reference)
        assert "damaged" not in said(run.path).read_text()


@pytest.mark.slow
def test_a_file_that_may_not_grow_ends_the_run_in_a_line_and_is_recorded(reference, tmp_path):
    run, cache = Workdir(tmp_path / "run"), reference.with_name("cache")
    process = start(RUN, run.path, cache)
    wait_for(process, run, 200)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    assert process.wait(timeout=60) == 1
    assert "File too large" in last_line(run) and "Traceback" not in said(run.path).read_text()
    found = json.loads(run.status.read_text())
    assert found["status"] == "failed" and "File too large" in found["cause"]
    same_end(whole(RUN, run.path, cache), reference)
