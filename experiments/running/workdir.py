"""A run's directory: what lies where in it, who may write to it, and how its run stands."""

import contextlib
import fcntl
import json
import os
import platform
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.running.identity import differences
from sparsity.disk import make, naming, sync

# A process asks the system only about others: its own second claim is refused by this.
_claimed: set[Path] = set()
_FLOCK = "hhqqi"  # the system's struct flock: type, whence, start, length, process


class Workdir(NamedTuple):
    """The files of a run, by name. ours: whether this process writes them, or another one of the run."""

    path: Path
    ours: bool = True

    def put(self, file: Path, value: Any) -> None:
        """JSON into one of the files, where they are ours to write."""
        if self.ours:
            write(file, value)

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.json"

    @property
    def resolved(self) -> Path:
        """What the config came to: the steps of an epoch, and the table of layers."""
        return self.path / "resolved.json"

    @property
    def status(self) -> Path:
        """running, done, diverged, preempted or failed, the cause, and the surroundings."""
        return self.path / "status.json"

    @property
    def summary(self) -> Path:
        """What came out; it is written last, and a run that has it is done."""
        return self.path / "summary.json"

    @property
    def metrics(self) -> Path:
        """The records of the loop, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Saved states, by step."""
        return self.path / "checkpoints"

    @property
    def latency(self) -> Path:
        """What a batch through the final model takes, once `experiments.latency` has measured it."""
        return self.path / "latency.json"

    @property
    def events(self) -> Path:
        """The metrics for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def profile(self) -> Path:
        """Profiles, for TensorBoard's and XProf's viewers."""
        return self.path / "profile"


def is_run(path: Path) -> bool:
    """Whether a launch has left anything there."""
    here = Workdir(path)
    files = (here.config, here.status, here.summary, here.metrics, here.checkpoints)
    return any(file.exists() for file in files)


@contextlib.contextmanager
def claimed(workdir: Workdir) -> Iterator[None]:
    """Makes the directory, and keeps every other process out of it until the end or this one's death.

    Raises OSError where it cannot be made or written, and ValueError while another run is in it.
    """
    if not workdir.ours:
        yield
        return
    path = workdir.path.resolve()
    try:
        make(path)
        file = (path / "lock").open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        problem = f"{error.strerror}; the run's directory must be one that can be written"
        raise OSError(error.errno, problem, str(workdir.path)) from None
    with file:
        if path in _claimed or not _locked(file):
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise ValueError(
                f"{workdir.path} is in use by {holder}: wait for its end, or take another directory"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        _claimed.add(path)
        try:
            yield
        finally:
            _claimed.remove(path)


def in_use(workdir: Workdir) -> bool:
    """Whether a run is in the directory now; asks without taking the lock, so that it stops no launch."""
    if workdir.path.resolve() in _claimed:
        return True
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with contextlib.suppress(OSError), (workdir.path / "lock").open("rb") as file:
        held = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
        return held[0] != fcntl.F_UNLCK
    return False


def _locked(file: Any) -> bool:
    """Takes the lock. It is of the process, so that it ends with it and no child inherits it."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; ValueError where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, it holds no JSON: {error}") from None
    if not hasattr(found, "keys"):
        raise ValueError(f"{path} is damaged, it holds no JSON object but a {type(found).__name__}")
    return found


def write(path: Path, value: Any) -> None:
    """JSON into a file, whole or not at all: neither a reader nor a crash finds half of it."""
    part = path.with_suffix(".part")
    try:
        with naming(path):
            part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
            sync(part)
            part.replace(path)
            sync(path.parent)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def refuse_other(config: Mapping[str, Any], workdir: Workdir) -> None:
    """ValueError, with the fields that differ, where the directory belongs to another config."""
    if not workdir.config.exists():
        return
    if lines := differences(read(workdir.config), config):
        listed = "\n  ".join(lines)
        raise ValueError(
            f"{workdir.path} belongs to another config; take another directory, or ask for:\n  {listed}"
        )
