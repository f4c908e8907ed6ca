"""An iterator that is read ahead of its reader, in a thread of its own."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
END = object()


def ahead(items: Iterator[Any], make: Callable[[Any], T], depth: int) -> Generator[T, None, None]:
    """make(item) of each item in order, up to `depth` of them ready before they are asked for.

    `make` runs in the thread: it is where a batch is sent to the device. What the items or `make` raise
    is raised where the result would have come. The thread starts at the first item asked for and ends
    when the generator is closed or dropped; it does not keep the process alive.
    """
    ready: queue.Queue[Any] = queue.Queue(depth)
    closed = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, make, ready, closed), daemon=True)
    thread.start()
    try:
        while (found := ready.get()) is not END:
            if isinstance(found, _Raised):
                raise found.error
            yield found
    finally:
        closed.set()
        while thread.is_alive():
            _empty(ready)
            thread.join(0.01)


class _Raised:
    """What ended the items."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _fill(
    items: Iterator[Any], make: Callable[[Any], Any], ready: queue.Queue, closed: threading.Event
) -> None:
    try:
        for item in items:
            ready.put(make(item))
            if closed.is_set():
                return
        ready.put(END)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the reader's
        ready.put(_Raised(error))
    finally:
        if (close := getattr(items, "close", None)) is not None:
            close()


def _empty(ready: queue.Queue) -> None:
    try:
        while True:
            ready.get_nowait()
    except queue.Empty:
        return
