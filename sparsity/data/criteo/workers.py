"""Calls run by a few processes, in order of their coming, a few ahead of what is done."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, NamedTuple, Self

AHEAD = 2  # calls that wait per process: what they carry is memory
ASKED = 1.0  # seconds between two looks at whether the parent lives


class Call(NamedTuple):
    """A function of a module and its arguments, all of which can be pickled."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class Workers:
    """A pool of `count` processes; with 1, the calls run in this one.

    The processes are spawned: a fork of a process with JAX's threads may hang. They end with this one,
    however it ends.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool = (
            ProcessPoolExecutor(
                count, multiprocessing.get_context("spawn"), _follow, (os.getpid(),)
            )
            if count > 1
            else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, calls: Iterable[tuple[int, Call]], ended: Callable[[int, Any], None]) -> None:
        """Runs numbered calls; `ended` takes the number and the result of each, as they come.

        The calls are drawn while others run. Raises what a call or `ended` raises.
        """
        running: dict[Future, int] = {}
        for number, call in calls:
            if not self._pool:
                ended(number, call.function(*call.arguments))
                continue
            running[self._pool.submit(call.function, *call.arguments)] = number
            if len(running) >= AHEAD * self._count:
                _collect(running, ended)
        while running:
            _collect(running, ended)


def _collect(running: dict[Future, int], ended: Callable[[int, Any], None]) -> None:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        ended(running.pop(future), future.result())


def _follow(parent: int) -> None:
    """Ends this process soon after its parent has gone: nobody would ever send it anything again."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ASKED)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
