"""How a launch talks and listens to whoever called it."""

from collections.abc import Callable
from typing import NamedTuple

from experiments.running.preemption import Stop
from sparsity.train.board import ALONE, Board
from sparsity.train.loop import Record


class Session(NamedTuple):
    """How a launch talks and listens; none of it changes what the run leaves behind.

    say:      takes lines for the user.
    stop:     a request to end.
    progress: whether the terminal shows how the run gets on.
    events:   whether TensorBoard's files are written.
    profile:  (first, behind the last) step to profile; () for none.
    heard:    is told each record of the metrics, once it is written.
    board:    the notes of all processes of the run. Process 0 alone talks and writes the run's directory.
    """

    say: Callable[[str], None] = print
    stop: Stop | None = None
    progress: bool = False
    events: bool = False
    profile: tuple[int, int] | tuple[()] = ()
    heard: Callable[[Record], None] = lambda record: None
    board: Board = ALONE
