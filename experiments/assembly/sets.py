"""The data of a run, of any kind: images, pictures or tables, on the device or gathered on the host."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.assembly import streaming
from experiments.assembly.placement import Placement
from sparsity.data import gathered, orders, tables
from sparsity.data.augment import crop_and_flip
from sparsity.data.datasets import Dataset, load_splits
from sparsity.data.files import root_of
from sparsity.data.order import epoch_order, eval_batches
from sparsity.data.resident import Resident, batch
from sparsity.data.tables import Table
from sparsity.train.descent import Batch
from sparsity.train.objectives import Objective, cross_entropy, log_loss


class Kind(NamedTuple):
    """What differs between images, pictures that are streamed, and tables.

    facts:     a part -> what a network must know of it.
    example:   a part -> the network's inputs for one example, all 0.
    resident:  a part -> its arrays, for the device; None of what is always streamed.
    batch:     (those arrays, indices, key, augment) -> a batch.
    objective: label smoothing -> what is minimised and reported.
    evaluated: examples per step of an evaluation.
    """

    facts: Callable[[Any], dict[str, int]]
    example: Callable[[Any], jax.Array]
    resident: Callable[[Any], Any]
    batch: Callable[..., Batch]
    objective: Callable[[float], Objective]
    evaluated: int


IMAGES = Kind(
    facts=lambda data: {"classes": data.classes},
    example=lambda data: jnp.zeros((1, *data.images.shape[1:]), jnp.float32),
    resident=Resident.of,
    batch=batch,
    objective=cross_entropy,
    evaluated=512,
)
PICTURES = Kind(
    facts=lambda part: {"classes": part.classes},
    example=lambda part: jnp.zeros((1, part.side, part.side, 3), jnp.float32),
    resident=lambda part: None,
    batch=streaming.batch,
    objective=cross_entropy,
    evaluated=512,
)
TABLES = Kind(
    facts=lambda data: {"numbers": data.numbers, "entries": data.entries},
    example=lambda data: jnp.zeros((1, data.rows.shape[1] - 1), jnp.int32),
    resident=lambda data: gathered.rows_of(data, np.arange(data.size)),
    batch=lambda rows, indices, key=None, augment=None: tables.batch(rows[indices]),
    objective=log_loss,
    evaluated=16_384,
)


class Sets(NamedTuple):
    """What is trained on and what is evaluated on: as it was read, and on the device; the latter is None
    where batches are gathered on the host.
    """

    kind: Kind
    train: Dataset | Table | streaming.Part
    test: Dataset | Table | streaming.Part
    resident: Any
    resident_test: Any

    @property
    def examples(self) -> int:
        """Examples that are trained on."""
        return self.train.size

    @property
    def streamed(self) -> bool:
        """Whether batches are gathered on the host."""
        return self.resident is None

    @property
    def absent(self) -> OSError | None:
        """Why the set is not there; None where it is."""
        return getattr(self.train, "error", None)


def load(section: Mapping[str, Any], place: Placement) -> Sets:
    """The sets that a config's section `data` names; ValueError for what does not go together."""
    table = section["name"] in tables.READERS
    if section["stream"] and not table:
        return Sets(PICTURES, *streaming.streams(section), None, None)
    if section["augment"] and table:
        raise ValueError(f"data.augment crops and flips images; {section['name']!r} is a table")
    share, root = section["validation"], section["root"] or None
    scored = "validation" if share else "test"
    if table:
        found = tables.read(section["name"], root_of(root), share)
    else:
        found = load_splits(section["name"], ("train", scored), root=root, validation=share)
    kind, train, test = TABLES if table else IMAGES, found["train"], found[scored]
    if section["stream"]:
        return Sets(kind, train, test, None, None)
    put = lambda data: place.put(kind.resident(data))
    return Sets(kind, train, test, put(train), put(test))


def drawing(section: Mapping[str, Any], sets: Sets, place: Placement) -> Callable[..., Batch]:
    """(source, step, key) -> the step's batch, of a source that `feed` gives."""
    if sets.kind is PICTURES:
        return functools.partial(streaming.draw, place)
    if sets.streamed:
        return functools.partial(_of_window, place)
    augment = crop_and_flip if section["augment"] else None
    return functools.partial(_draw, sets.kind, augment, place)


def _of_window(place: Placement, source: Any, step: jax.Array, key: jax.Array) -> Batch:
    """The step's rows out of those of some steps."""
    return place.split(tables.batch(source["rows"][step - source["first"]]))


def _draw(
    kind: Kind, augment: Any, place: Placement, source: Any, step: jax.Array, key: jax.Array
) -> Batch:
    """The rows of the epoch's order that the step's place in it names."""
    resident, order = source
    indices = order[step % order.shape[0]]
    return place.split(kind.batch(resident, indices, key=key, augment=augment))


def feeding(sets: Sets, seed: int, size: int, place: Placement) -> Callable[..., Any]:
    """(step, batches=1) -> what `drawing` draws from: the resident set with the epoch's order on the device,
    (steps per epoch, batch), or the rows of those steps alone.
    """
    if isinstance(sets.train, streaming.Part):
        return streaming.feed(sets.train, seed, size, place)
    if isinstance(sets.train, Table) and sets.streamed:
        return gathered.Gathered(sets.train, seed, size, place.put)
    n, per_epoch = sets.examples, sets.examples // size
    order_of = orders.Orders(seed, n) if sets.kind is TABLES else lambda e: epoch_order(seed, e, n)

    @functools.lru_cache(maxsize=1)
    def of_epoch(epoch: int):
        order = order_of(epoch)[: per_epoch * size].reshape(per_epoch, size)
        return sets.resident, place.put(order.astype(np.int32))

    return lambda step, batches=1: of_epoch(step // per_epoch)


def held(sets: Sets, place: Placement) -> Callable[[], Iterator[Batch]]:
    """A function that goes over the evaluation set: each example once, with a weight per example."""
    size = sets.kind.evaluated
    if isinstance(sets.test, streaming.Part):
        part = sets.test
        return lambda: streaming.scored(part, size, place)
    if isinstance(sets.test, Table) and sets.streamed:
        table = sets.test
        return lambda: (
            {**tables.batch(rows), "weight": weight}
            for rows, weight in gathered.held(table, size, place.put)
        )
    cuts = place.put(eval_batches(sets.test.size, size))
    steps = place.put(list(np.arange(len(cuts[0]), dtype=np.int32)))
    return lambda: (_cut(sets.kind, sets.resident_test, cuts, i) for i in steps)


@functools.partial(jax.jit, static_argnums=0)
def _cut(kind: Kind, resident: Any, cuts: tuple[jax.Array, jax.Array], i: jax.Array) -> Batch:
    """The i-th batch of the evaluation, with the weight of each example."""
    indices, weights = cuts
    return {**kind.batch(resident, indices[i]), "weight": weights[i]}
