"""A run's status file: how the run stands, and why."""

import contextlib
from collections.abc import Iterator

from experiments.running.preemption import Preempted
from experiments.running.session import Session
from experiments.running.workdir import Workdir
from experiments.surroundings import surroundings
from sparsity.train.loop import Diverged


@contextlib.contextmanager
def kept_status(here: Workdir, session: Session) -> Iterator[None]:
    """Keeps the directory's status file true."""
    set_status(here, "running")
    try:
        yield
    except BaseException as error:
        word, cause = _word(error)
        try:
            set_status(here, word, cause)
        except OSError as second:
            session.say(f"the status could not be written: {second}")
        raise
    set_status(here, "done")


def _word(error: BaseException) -> tuple[str, str]:
    if isinstance(error, Diverged):
        return "diverged", str(error)
    if isinstance(error, Preempted | KeyboardInterrupt):
        return "preempted", str(error) or "interrupted"
    return "failed", f"{type(error).__name__}: {error}"


def set_status(here: Workdir, word: str, cause: str = "") -> None:
    """Writes how the run stands, and under what it runs."""
    here.put(here.status, {"status": word, "cause": cause, **surroundings()})
