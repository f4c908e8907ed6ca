"""SIGTERM and SIGINT: a run is asked to end, saves where it stands, and ends within seconds.

The request is heard by a thread, because Python runs no handler while the main thread waits in a
compilation. A run that does not come to its next act or step in time is saved by that thread, if its
arrays are still there, and the process ends.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

GRACE = 5.0  # seconds for the run to come to its next act or step
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Preempted(Exception):
    """The run was asked to end; says by what."""


class Stop:
    """A request to end, and what is to be saved if the run does not answer it.

    busy:   held while files are written that must not be cut off.
    due:    whether to end at this place; of several processes, when all do.
    grace:  seconds for the run to come to such a place.
    rescue: what is called in place of the run, with busy held, where it comes to none.
    left:   is called behind `rescue`, before the process ends.
    ending: takes why another process ends this one.
    code:   the exit status of a process that ended so: 128 and the signal's number.
    """

    def __init__(self) -> None:
        self.busy = threading.RLock()
        self.due: Callable[[], bool] = lambda: bool(self.reason)
        self.grace = GRACE
        self.rescue: Callable[[], None] = lambda: None
        self.left: Callable[[], None] = lambda: None
        self.ending: Callable[[str], None] = lambda words: None
        self.reason = ""
        self.code = 0

    def ask(self, number: int) -> None:
        """Asks the run to end, as the signal did."""
        self.code = 128 + number
        self.reason = signal.Signals(number).name

    def check(self) -> None:
        """Raises Preempted once the run was asked to end."""
        if self.due():
            raise Preempted(self.reason)


@contextlib.contextmanager
def listening(stop: Stop) -> Iterator[None]:
    """Turns this process's signals into requests to `stop`; a second signal waits for nothing."""
    here, there = socket.socketpair()
    there.setblocking(False)
    old_fd = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
    old = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    ended = threading.Event()
    listener = threading.Thread(target=_listen, args=(here, stop, ended), daemon=True)
    listener.start()
    try:
        yield
    finally:
        with stop.busy:
            ended.set()
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_fd)
        there.close()
        listener.join()
        here.close()


def _listen(source: socket.socket, stop: Stop, ended: threading.Event) -> None:
    number = next((n for n in iter(lambda: _heard(source), 0) if n in SIGNALS), 0)
    if not number:
        return
    stop.ask(number)
    source.settimeout(stop.grace)
    with contextlib.suppress(TimeoutError):
        while _heard(source) not in (0, *SIGNALS):
            pass
    with stop.busy:
        if not ended.is_set():
            stop.rescue()
            stop.left()
            os._exit(stop.code)


def _heard(source: socket.socket) -> int:
    """The next signal's number; 0 at the end."""
    byte = source.recv(1)
    return byte[0] if byte else 0
