"""The line of a process to process 0, led through this process, so that its end is heard here and not by JAX.

JAX's client ends a process in C++ where the connection to its service breaks, with a stack trace and no word
of what is to be done; a callback in Python, which it has a place for, fails as well (std::bad_cast, in jaxlib 0.10.2
and 0.12.0.1). So the client calls a port of its own process, from where bytes go on to process 0. Where that
connection breaks, the client's is held, and whoever watches the run is told.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable

HERE = "127.0.0.1"
CHUNK = 2**16  # bytes


class Line:
    """A port of this process that stands for process 0's.

    broken: called, once, where process 0's end of a connection closes first; until it is set, and after it is
    set to None, such an end is handed on to JAX.
    """

    def __init__(self) -> None:
        self.broken: Callable[[], None] | None = None

    def to(self, coordinator: str) -> str:
        """Opens the line to HOST:PORT; returns what JAX is to call in its place."""
        _refuse_proxies()
        ear = socket.create_server((HERE, 0))
        threading.Thread(target=self._hear, args=(ear, coordinator), daemon=True).start()
        return f"{HERE}:{ear.getsockname()[1]}"

    def _hear(self, ear: socket.socket, coordinator: str) -> None:
        while True:
            near, _ = ear.accept()
            threading.Thread(target=self._join, args=(near, coordinator), daemon=True).start()

    def _join(self, near: socket.socket, coordinator: str) -> None:
        host, _, port = coordinator.rpartition(":")
        try:
            far = socket.create_connection((host.strip("[]"), int(port)))
        except OSError:  # process 0 is not there yet: JAX tries again
            near.close()
            return
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hung_up = threading.Event()
        threading.Thread(target=_out, args=(near, far, hung_up), daemon=True).start()
        _carry(far, near)
        broken = self.broken
        if broken and not hung_up.is_set():
            broken()
        else:
            _hang_up(near)


def _out(near: socket.socket, far: socket.socket, hung_up: threading.Event) -> None:
    """Carries what JAX sends, and its end."""
    if _carry(near, far):
        hung_up.set()
        _hang_up(far)


def _carry(source: socket.socket, sink: socket.socket) -> bool:
    """Carries bytes until one of the two closes; whether it was the source."""
    while True:
        try:
            data = source.recv(CHUNK)
        except OSError:
            return True
        if not data:
            return True
        try:
            sink.sendall(data)
        except OSError:
            return False


def _hang_up(end: socket.socket) -> None:
    """Closes both directions, also where another thread is reading."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def _refuse_proxies() -> None:
    """JAX would send what is for this process to the environment's proxy for HTTP."""
    for name in ("no_proxy", "no_grpc_proxy"):
        if name == "no_proxy" or name in os.environ:
            before = [part for part in os.environ.get(name, "").split(",") if part]
            os.environ[name] = ",".join([*before, HERE])
