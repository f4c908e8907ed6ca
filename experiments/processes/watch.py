"""A thread that hears from the other processes of a run, also while this one computes or waits for them.

It hears that one was asked to end, that one has ended with an error, and that one is not heard any more. The
last two end this process too: what it computes needs all of them.
"""

import contextlib
import os
import sys
import threading
import time
from typing import NoReturn

import jax

from experiments.processes.accord import Accord
from experiments.processes.line import Line
from experiments.running.preemption import Stop
from sparsity.train.board import Board

PAUSE = 0.5  # seconds between two looks
PATIENCE = 5.0  # seconds for the others to have heard, before process 0 takes the notes with it
# What is to be done where a process was lost.
AGAIN = "\nlaunch them again, of whatever number: the run goes on from its last checkpoint"


class Watch:
    """Looks at the notes of all processes, from `start` on.

    lost: seconds of silence after which a process is lost. line: to process 0, which holds the notes.
    """

    def __init__(self, board: Board, stop: Stop, accord: Accord, lost: float, line: Line) -> None:
        self._board, self._stop, self._accord, self._lost = board, stop, accord, lost
        self._line, self._answered = line, time.monotonic()
        self._closed, self._settled = threading.Event(), False
        self._beats: dict[str, tuple[str, float]] = {}
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._answered = time.monotonic()
        self._thread.start()
        if self._board.index:
            self._line.broken = lambda: self._end_alone("is gone: killed, or cut off")
            threading.Thread(target=self._wait_on, daemon=True).start()

    def close(self) -> None:
        """Ends looking."""
        self._closed.set()
        self._line.broken = None
        if threading.current_thread() is not self._thread:
            # It may be waiting for one who has left meanwhile.
            self._thread.join(2 * PAUSE)

    def tell(self, words: str) -> None:
        """This process ends; tells the others why, and lets them hear it."""
        self._closed.set()
        board = self._board
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # process 0 has gone first
            board.post("news/ended", f"process {board.index} of {board.count} ended: {words}")
            self._part()

    def _look_on(self) -> None:
        try:
            while not self._closed.wait(PAUSE):
                self._look()
                self._answered = time.monotonic()
        except jax.errors.JaxRuntimeError as error:
            if not self._closed.is_set():
                self._end_alone(f"is gone: {_first_line(error)}")

    def _wait_on(self) -> None:
        """Ends this process where process 0 is there and does not answer."""
        while not self._closed.wait(PAUSE):
            if time.monotonic() - self._answered > self._lost:
                self._end_alone(f"has not answered for {self._lost:g} s: stopped, or cut off")

    def _look(self) -> None:
        news = self._board.notes("news")
        if "ended" in news and not self._closed.is_set():
            self._end(news["ended"])
        self._board.post(f"beats/{self._board.index}", str(time.monotonic()), again=True)
        if self._board.index == 0 and (silent := self._silent()):
            self._lose(silent)
        if self._stop.reason and "asked" not in news:
            self._board.post("news/asked", f"{self._stop.code} {self._board.index}")
        if "asked" in news and not self._settled:
            self._asked(*map(int, news["asked"].split()))

    def _asked(self, code: int, index: int) -> None:
        if not self._stop.reason:
            self._stop.ask(code - 128)
            self._stop.reason += f" at process {index}"
        self._accord.settle()
        self._settled = True

    def _silent(self) -> list[str]:
        """Who has not been heard for too long, as this process's clock goes."""
        now = time.monotonic()
        for index, beat in self._board.notes("beats").items():
            if self._beats.get(index, ("", 0.0))[0] != beat:
                self._beats[index] = beat, now
        return [i for i, (_, heard) in self._beats.items() if now - heard > self._lost]

    def _lose(self, silent: list[str]) -> None:
        """Ends all that are left."""
        for index in silent:
            self._board.post(f"gone/{index}", "")
        words = (
            f"process {', '.join(sorted(silent))} of {self._board.count} has not been heard for "
            f"{self._lost:g} s: killed, or cut off"
        )
        self._board.post("news/ended", words)
        self._end(words, AGAIN)

    def _end(self, words: str, hint: str = "") -> None:
        """Ends this process at once: its own thread may wait for ever for one that is gone."""
        self._say(words, hint)
        self._part()
        os._exit(1)

    def _end_alone(self, words: str) -> NoReturn:
        """Ends this process without process 0: it is not told, for nobody would answer."""
        self._say(f"process 0, which holds the notes, {words}", AGAIN)
        os._exit(1)

    def _say(self, words: str, hint: str) -> None:
        board = self._board
        print(
            f"process {board.index} of {board.count} ends: {words}{hint}",
            file=sys.stderr,
            flush=True,
        )
        self._stop.ending(words)

    def _part(self) -> None:
        """Says that it goes; process 0 waits for the others to have said so."""
        board, until = self._board, time.monotonic() + PATIENCE
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            board.post(f"gone/{board.index}", "", again=True)
            while board.index == 0 and len(board.notes("gone")) < board.count:
                if time.monotonic() > until:
                    return
                time.sleep(0.05)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
