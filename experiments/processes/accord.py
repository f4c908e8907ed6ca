"""All processes of a run leave it at the same place, though each was asked at another time, or only one.

A run comes to the same places in every process: before each act, each step, each batch of an evaluation. Once
one is asked to end, each says how many places it has come to, and goes no further until it knows the others'
counts; all leave at the place behind the furthest. Nothing is exchanged before that.
"""

import threading

from sparsity.train.board import Board


class Accord:
    """Counts this process's places, and knows at which to leave."""

    def __init__(self, board: Board) -> None:
        self._board, self._lock = board, threading.Lock()
        self._count, self._last = 0, 0

    def due(self) -> bool:
        """Whether to leave here; called once at each place, by the thread that computes."""
        with self._lock:
            self._count += 1
            return 0 < self._last <= self._count

    def settle(self) -> None:
        """Agrees on the place; called once by a thread of each process, which keeps the other one waiting."""
        with self._lock:
            counts = self._board.gather("places", str(self._count))
            self._last = 1 + max(int(count) for count in counts)
