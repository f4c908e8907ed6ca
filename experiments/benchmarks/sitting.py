"""Benchmarks in sittings: parts one after the other, until the time for one call is over."""

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

Part = TypeVar("Part")


def within(minutes: float, parts: Sequence[Part]) -> Iterator[Part]:
    """The parts; none begins after so many minutes, and how many are left is said then."""
    began = time.monotonic()
    for i, part in enumerate(parts):
        if time.monotonic() - began > 60 * minutes:
            print(f"{len(parts) - i} parts are left after {minutes:g} minutes; call again")
            return
        yield part
