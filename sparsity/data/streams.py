"""The two splits of a set of pictures by its name, each as a stream."""

import math
import os
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from sparsity.data import encoded, folder, tables
from sparsity.data.files import root_of
from sparsity.data.order import epoch_order
from sparsity.data.pictures import Pictures
from sparsity.data.stream import Stream, Undecoded
from sparsity.named import unknown

FORMS: dict[str, Callable[..., Pictures]] = {"tfds": encoded.pictures, "folder": folder.pictures}


class Known(NamedTuple):
    """The size of a set: pictures trained on and scored, and classes."""

    train: int
    test: int
    classes: int

    @classmethod
    def of(cls, name: str, validation: float = 0.0) -> "Known | None":
        """Of the sets whose size is published; None for others."""
        whole = PUBLISHED.get(name.partition(":")[2].partition(":")[0])
        if whole is None or not validation:
            return whole
        held = _held(whole.train, validation)
        return whole._replace(train=whole.train - held, test=held)


PUBLISHED = {"imagenet2012": Known(1_281_167, 50_000, 1000)}


class Absent(NamedTuple):
    """A split of a set that is not here, but whose size is known; error: what to get and where to put it."""

    size: int
    classes: int
    side: int
    error: FileNotFoundError


def streamed(
    name: str,
    *,
    root: str | os.PathLike | None = None,
    validation: float = 0.0,
    side: int = 224,
    augment: bool = True,
    workers: int = 8,
    processes: int = 0,
    undecodable: int = 0,
    said: Callable[[str], None] = lambda line: None,
) -> tuple[Stream, Stream]:
    """The streams of a set: of what is trained on, and of what is scored.

    Arguments:
      name: tfds:NAME (see `encoded`) or folder:NAME (see `folder`).
      root: the folder of all data sets, by default that of $SPARSITY_DATA.
      validation: share of the training set that is cut off and scored in place of the test set; of the
        whole set, not of each class, as the labels lie in the records. 0 scores the test set.
      side, augment, workers, processes, undecodable: see `stream.Stream`; undecodable holds for each
        split.
      said: takes lines on what takes long.

    Raises:
      FileNotFoundError: when the set is not there.
      ValueError: for a name of another form, a broken set, and one of another size than is published.
    """
    form, _, own = str(name).partition(":")
    if form not in FORMS or not own:
        forms = (*(f"{form}:NAME" for form in FORMS), *tables.READERS)
        raise unknown("streamed data set", name, forms)
    train, test = (FORMS[form](own, split, root_of(root), said) for split in ("train", "test"))
    _check(name, train, test)
    rows, held = np.arange(len(train)), np.arange(len(test))
    if validation:
        test, (rows, held) = train, _cut(len(train), validation)

    def stream(source: Pictures, chosen: np.ndarray) -> Stream:
        return Stream(source, chosen, side, Undecoded(undecodable), augment, workers, processes)

    return stream(train, rows), stream(test, held)


def _check(name: str, train: Pictures, test: Pictures) -> None:
    found, published = Known(len(train), len(test), train.classes), Known.of(name)
    if published is not None and published != found:
        raise ValueError(
            f"{name} has {published.train:,} pictures in {published.classes} classes, and {published.test:,} "
            f"to be scored; here are {found.train:,} in {found.classes}, and {found.test:,}: another set, "
            "or a part of it"
        )
    if train.classes != test.classes:
        raise ValueError(f"{name}: {train.classes} classes are trained on, {test.classes} scored")


def _cut(n: int, share: float) -> list[np.ndarray]:
    """What stays and what is held out, each ascending; always the same."""
    order, held = epoch_order(0, 0, n), _held(n, share)
    return [np.sort(order[held:]), np.sort(order[:held])]


def _held(n: int, share: float) -> int:
    held = math.floor(Fraction(str(share)) * n)
    if not 0 < held < n:
        raise ValueError(f"holding out {share} of {n} pictures leaves nothing on one side")
    return held
