"""A set of pictures read from the disk batch by batch: what a training step and an evaluation see of it.

A training step sees `order.indices(seed, step, n, batch)`; what is seen of each picture is a function of
(seed, epoch, picture). So a run that resumes at any step, with any number of processes, sees what the run
that was never stopped would have seen.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from sparsity.data import crops
from sparsity.data.decode import Choice, Undecodable, decoded
from sparsity.data.pictures import Picture, Pictures
from sparsity.data.pipeline import Batches, drawn, each

Row = Mapping[str, Any]
# Of the pixels of ImageNet's training set, where 255 counts as 1.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
NAMED = 5  # undecodable pictures that an error names


@dataclass
class Undecoded:
    """Pictures of a split that did not decode, each counted once; beyond `limit` reading ends."""

    limit: int
    found: dict[int, str] = field(default_factory=dict)

    def add(self, index: int, error: Undecodable) -> None:
        """Raises ValueError, naming them, for one too many."""
        if index not in self.found:
            self.found[index] = str(error)
            logging.getLogger(__name__).warning("%s (%d so far)", error, len(self.found))
        if len(self.found) > self.limit:
            names = "\n  ".join(list(self.found.values())[:NAMED])
            raise ValueError(
                f"{len(self.found)} pictures cannot be decoded, and {self.limit} may be "
                f"(data.undecodable):\n  {names}"
            ) from error


@dataclass(frozen=True)
class Stream:
    """A split as a stream of batches {"image": uint8 (N, side, side, 3), "label": int32 (N,)}.

    rows: the pictures of it that count, as indices. augment: whether training sees a part at random,
    and half of the pictures mirrored, or the middle as an evaluation does. workers, processes: see
    `reading.read`; each process counts what does not decode for itself.
    """

    pictures: Pictures
    rows: np.ndarray
    side: int
    undecoded: Undecoded
    augment: bool = True
    workers: int = 8
    processes: int = 0

    @property
    def size(self) -> int:
        """Pictures of the split."""
        return len(self.rows)

    @property
    def classes(self) -> int:
        """Of the whole set."""
        return self.pictures.classes

    def training(
        self, seed: int, start: int, stop: int, batch: int, process: tuple[int, int] = (0, 1)
    ) -> Batches:
        """The batches of the steps start, ..., stop - 1; see `pipeline.drawn`.

        A picture that does not decode is replaced by the next one that does.
        """
        seen, ahead = partial(self._seen, seed), (self.workers, self.processes)
        return drawn(seen, self.size, seed, start, stop, batch, process, *ahead)

    def evaluation(self, batch: int, process: tuple[int, int] = (0, 1)) -> Batches:
        """All pictures once, in order, with "weight" float32 (N,); see `pipeline.each`.

        A picture that does not decode has weight 0: it is in no sum.
        """
        return each(self._judged, self.size, batch, process, self.workers, self.processes)

    def _seen(self, seed: int, epoch: int, index: int) -> Row:
        for at in range(index, index + self.size):
            at %= self.size
            try:
                return self._row(at, *self._view(seed, epoch, at))
            except Undecodable as error:
                self.undecoded.add(at, error)
        raise ValueError(f"none of {self.size} pictures can be decoded")

    def _view(self, seed: int, epoch: int, index: int) -> tuple[Choice, bool]:
        """The part that is seen, and whether it is mirrored."""
        if not self.augment:
            return crops.middle_part, False
        numbers = crops.draws(seed, epoch, index)
        flip = next(numbers) < 0.5
        return partial(crops.random_part, numbers), flip

    def _judged(self, index: int) -> Row:
        try:
            return {**self._row(index, crops.middle_part, False), "weight": np.float32(1)}
        except Undecodable as error:
            self.undecoded.add(index, error)
            black = np.zeros((self.side, self.side, 3), np.uint8)
            return {"image": black, "label": np.int32(0), "weight": np.float32(0)}

    def _row(self, index: int, choice: Choice, flip: bool) -> Row:
        picture: Picture = self.pictures[int(self.rows[index])]
        image = decoded(picture, choice, self.side, flip)
        return {"image": image, "label": np.int32(picture.label)}
