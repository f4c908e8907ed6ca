"""Sets of pictures that are read from the disk while a run computes: the same contract as a resident set's.

A source is a window of the batches of some steps on the device, uint8; a program takes the batch of its step
out of it and standardises it. Batches are read and sent to the device ahead of the step that needs them.
"""

import collections
import functools
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.assembly.placement import Placement
from sparsity.data.pixels import standardise
from sparsity.data.prefetch import ahead
from sparsity.data.stream import MEAN, STD, Stream
from sparsity.data.streams import Absent, Known, streamed

READY = 2  # batches on the device before they are asked for
FOREVER = 1 << 31  # steps: what a tick looks at may lie behind a run's last step
Window = dict[str, jax.Array]
Begin = Callable[[int], Generator[Window, None, None]]
Part = Stream | Absent
SETTINGS = ("name", "root", "validation", "side", "augment", "workers", "processes", "undecodable")


def streams(section: Mapping[str, Any]) -> tuple[Part, Part]:
    """What a config's section `data` trains on and scores. A set that is known but not here is absent."""
    try:
        return streamed(**{name: section[name] for name in SETTINGS}, said=print)
    except FileNotFoundError as error:
        known = Known.of(section["name"], section["validation"])
        if known is None:
            raise
        sizes = (known.train, known.test)
        train, test = (Absent(n, known.classes, section["side"], error) for n in sizes)
        return train, test


def draw(place: Placement, source: Window, step: jax.Array, key: jax.Array) -> dict[str, jax.Array]:
    """A step's batch out of a window; the key is not used, as pictures are augmented where they are read."""
    rows = {name: source[name] for name in ("image", "label")}
    return place.split(batch(rows, step - source["first"], key))


def batch(
    rows: Mapping[str, jax.Array], indices: Any, key: jax.Array | None = None, augment: None = None
) -> dict[str, jax.Array]:
    """Rows by their indices, the images standardised: float32 for uint8."""
    del key, augment
    chosen = {name: value[indices] for name, value in rows.items()}
    return {**chosen, "image": standardise(chosen["image"], MEAN, STD)}


class Feed:
    """(step, count) -> the window of the batches of the steps step, ..., step + count - 1.

    Steps that follow one another find theirs ready; after a jump reading begins anew. `close` ends the
    threads.
    """

    def __init__(self, begin: Begin) -> None:
        self._begin, self._step = begin, 0
        self._held: collections.deque[Window] = collections.deque()
        self._items: Iterator[Window] | None = None

    def __call__(self, step: int, count: int = 1) -> Window:
        self._seek(step)
        while len(self._held) < count:
            self._held.append(next(self._items))  # pyrefly: ignore
        held = [*itertools.islice(self._held, count)]
        if count == 1:
            return held[0]
        joined = {name: jnp.concatenate([w[name] for w in held]) for name in ("image", "label")}
        return {**joined, "first": held[0]["first"]}

    def _seek(self, step: int) -> None:
        """Lets go of the batches before a step."""
        if self._items is None or not self._step <= step <= self._step + len(self._held):
            self.close()
            self._items, self._step = self._begin(step), step
        while self._step < step:
            self._held.popleft()
            self._step += 1

    def close(self) -> None:
        """Ends reading; asked again, it begins anew."""
        self._held.clear()
        if self._items is not None:
            self._items.close()  # pyrefly: ignore
            self._items = None


def feed(part: Part, seed: int, batch: int, place: Placement) -> Feed:
    """The feed of a run's training batches; asked for one of an absent set, it raises OSError."""

    def begin(start: int) -> Generator[Window, None, None]:
        steps = itertools.count(start)
        read = present(part).training(seed, start, FOREVER, batch, place.part)
        return ahead(read, lambda rows: _window(place, rows, next(steps)), READY)

    return Feed(begin)


def specimen(part: Part, batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What a source of one step looks like."""
    return {
        "image": jax.ShapeDtypeStruct((1, batch, part.side, part.side, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((1, batch), jnp.int32),
        "first": jax.ShapeDtypeStruct((), jnp.int32),
    }


def scored(part: Part, batch: int, place: Placement) -> Iterator[dict[str, jax.Array]]:
    """The whole evaluation set in batches, each picture once; what fills up the last has weight 0."""
    read = present(part).evaluation(batch, place.part)
    ready = ahead(read, functools.partial(place.rows, axis=0), READY)
    try:
        for rows in ready:
            yield _judged(place, rows)
    finally:
        ready.close()


@functools.partial(jax.jit, static_argnums=0)
def _judged(place: Placement, rows: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    return place.split(batch(rows, ...))


def _window(place: Placement, rows: Mapping[str, np.ndarray], step: int) -> Window:
    sent = place.rows({name: value[None] for name, value in rows.items()}, axis=1)
    return {**sent, "first": place.put(np.int32(step))}


def present(part: Part) -> Stream:
    """The part, where it is here; the OSError that says why not, where it isn't."""
    if isinstance(part, Absent):
        raise part.error
    return part
