"""Batches of a table too large for the device, gathered on the host ahead of the steps that see them."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from sparsity.data.order import epoch_order, eval_batches, steps_per_epoch
from sparsity.data.tables import Table

Put = Callable[[Any], Any]
THREADS, AHEAD = 2, 4


class Gathered:
    """(step, batches=1) -> the rows of that many steps from `step` on, on the device.

    They are {"rows": int32 (batches, batch, columns), "first": the step}. What a step sees is
    `order.indices(seed, step, n, batch)` of the table's rows, as if the table lay on the device. Threads
    gather the next few steps, and one sorts the order of the epoch to come: for 33 million rows that
    takes seconds.
    """

    def __init__(self, table: Table, seed: int, batch: int, put: Put, ahead: int = AHEAD) -> None:
        self._table, self._seed, self._batch = table, seed, batch
        self._put, self._ahead = put, ahead
        self._per_epoch = steps_per_epoch(table.size, batch)
        self._gather = ThreadPoolExecutor(THREADS, "gather")
        self._sort = ThreadPoolExecutor(1, "sort")
        self._orders: dict[int, Future] = {}
        self._windows: dict[int, Future] = {}

    def __call__(self, step: int, batches: int = 1) -> Any:
        """Waits for the rows; asked again for the same step, it gives the same."""
        if batches > 1:
            order = self._order(step // self._per_epoch)
            return self._put(self._window(step, batches, order))
        for old in [s for s in self._windows if not step <= s <= step + self._ahead]:
            self._windows.pop(old).cancel()
        for s in range(step, step + self._ahead + 1):
            if s not in self._windows:
                order = self._order(s // self._per_epoch)
                self._windows[s] = self._gather.submit(self._sent, s, order)
        return self._windows[step].result()

    def _order(self, epoch: int) -> Future:
        """An epoch's order, and the next one's sooner than it is needed."""
        for old in [e for e in self._orders if not epoch - 1 <= e <= epoch + 1]:
            del self._orders[old]
        for e in (epoch, epoch + 1):
            if e not in self._orders:
                asked = (self._seed, e, self._table.size)
                self._orders[e] = self._sort.submit(epoch_order, *asked)
        return self._orders[epoch]

    def _sent(self, step: int, order: Future) -> Any:
        return self._put(self._window(step, 1, order))

    def _window(self, step: int, batches: int, order: Future) -> dict[str, Any]:
        """The steps' rows on the host; those behind the epoch's end are of the next one's order."""
        parts = []
        for s in range(step, step + batches):
            epoch, place = divmod(s, self._per_epoch)
            own = order if epoch == step // self._per_epoch else self._order(epoch)
            places = own.result()[place * self._batch : (place + 1) * self._batch]
            parts.append(rows_of(self._table, places))
        # One batch is not copied once more.
        rows = parts[0][None] if batches == 1 else np.stack(parts)
        return {"rows": rows, "first": np.int32(step)}

    def close(self) -> None:
        """Ends the threads."""
        for pool in (self._gather, self._sort):
            pool.shutdown(wait=False, cancel_futures=True)


def rows_of(table: Table, indices: np.ndarray) -> np.ndarray:
    """Rows int32 (k, columns) of a part of a set, by their number within the part."""
    return np.take(table.rows, table.places[indices], axis=0)


def held(table: Table, batch: int, put: Put) -> Iterator[tuple[Any, Any]]:
    """All rows in order in batches of one size, with weights (batch,): 0 for what fills up the last."""
    indices, weights = eval_batches(table.size, batch)
    make = lambda i: put((rows_of(table, indices[i]), weights[i]))
    with ThreadPoolExecutor(THREADS) as pool:
        coming = [pool.submit(make, i) for i in range(min(AHEAD, len(indices)))]
        for i in range(len(indices)):
            found = coming.pop(0).result()
            if i + AHEAD < len(indices):
                coming.append(pool.submit(make, i + AHEAD))
            yield found
