"""The processes of a run as a launch sees them: joined, of one mind, and ended together."""

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator

from experiments.processes.accord import Accord
from experiments.processes.joining import Joining, join
from experiments.processes.line import Line
from experiments.processes.watch import Watch
from experiments.running.preemption import Preempted, Stop
from sparsity.train.board import Board

SHARED_GRACE = 25.0  # seconds for all to come to the place where they leave


@contextlib.contextmanager
def crew(joining: Joining, stop: Stop) -> Iterator[Board]:
    """Joins the others and gives the notes that all can read; what ends one of them ends all.

    With others, `stop` is asked for all at once and answered by all at the same place. An error raised in
    here is told to them before it goes on, and theirs ends this process.
    """
    line = Line()
    board = join(joining, line)
    if board.count == 1:
        yield board
        return
    accord = Accord(board)
    watch = Watch(board, stop, accord, joining.lost, line)
    stop.due, stop.grace = accord.due, SHARED_GRACE
    stop.left = lambda: watch.tell(f"{stop.reason}, and no next step within {stop.grace:g} s")
    watch.start()
    try:
        yield board
        board.meet("end")
    except Preempted:
        board.meet("end")
        raise
    except BaseException as error:
        watch.tell(f"{type(error).__name__}: {error}")
        # JAX would wait at its end for those who are gone.
        atexit.register(_leave)
        raise
    finally:
        watch.close()


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
