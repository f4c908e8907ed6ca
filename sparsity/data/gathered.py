"""Batches of a table too large for the device, gathered on the host ahead of the steps that see them."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from sparsity.data.order import eval_batches, steps_per_epoch
from sparsity.data.orders import Orders
from sparsity.data.tables import Table

Put = Callable[[Any], Any]
THREADS, AHEAD = 2, 4


class Gathered:
    """(step, batches=1) -> the rows of that many steps from `step` on, on the device.

    They are {"rows": int32 (batches, batch, columns), "first": the step}. What a step sees is
    `order.indices(seed, step, n, batch)` of the table's rows, as if the table lay on the device. Threads
    gather the next few steps.
    """

    def __init__(self, table: Table, seed: int, batch: int, put: Put, ahead: int = AHEAD) -> None:
        self._table, self._batch = table, batch
        self._put, self._ahead = put, ahead
        self._per_epoch = steps_per_epoch(table.size, batch)
        self._gather = ThreadPoolExecutor(THREADS, "gather")
        self._orders = Orders(seed, table.size)
        self._windows: dict[int, Future] = {}

    def __call__(self, step: int, batches: int = 1) -> Any:
        """Waits for the rows; asked again for the same step, it gives the same."""
        if batches > 1:
            order = self._orders.coming(step // self._per_epoch)
            return self._put(self._window(step, batches, order))
        for old in [s for s in self._windows if not step <= s <= step + self._ahead]:
            self._windows.pop(old).cancel()
        for s in range(step, step + self._ahead + 1):
            if s not in self._windows:
                order = self._orders.coming(s // self._per_epoch)
                self._windows[s] = self._gather.submit(self._sent, s, order)
        return self._windows[step].result()

    def _sent(self, step: int, order: Future) -> Any:
        return self._put(self._window(step, 1, order))

    def _window(self, step: int, batches: int, order: Future) -> dict[str, Any]:
        """The steps' rows on the host; those behind the epoch's end are of the next one's order."""
        parts = []
        for s in range(step, step + batches):
            epoch, place = divmod(s, self._per_epoch)
            own = order if epoch == step // self._per_epoch else self._orders.coming(epoch)
            places = own.result()[place * self._batch : (place + 1) * self._batch]
            parts.append(rows_of(self._table, places))
        # One batch is not copied once more.
        rows = parts[0][None] if batches == 1 else np.stack(parts)
        return {"rows": rows, "first": np.int32(step)}

    def close(self) -> None:
        """Ends the threads."""
        self._gather.shutdown(wait=False, cancel_futures=True)
        self._orders.close()


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
