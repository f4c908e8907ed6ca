"""The orders of a run's epochs, each sorted in a thread while the one before it is in use.

For 33 million rows sorting takes seconds, as long as an epoch on a fast device.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from sparsity.data.order import epoch_order


class Orders:
    """epoch -> `order.epoch_order(seed, epoch, n)`, asked for from one thread."""

    def __init__(self, seed: int, n: int) -> None:
        self._seed, self._n = seed, n
        self._thread = ThreadPoolExecutor(1, "sort")
        self._found: dict[int, Future] = {}

    def coming(self, epoch: int) -> Future:
        """The order of an epoch, perhaps not sorted yet; the next one's is sorted behind it."""
        for old in [e for e in self._found if not epoch - 1 <= e <= epoch + 1]:
            del self._found[old]
        for e in (epoch, epoch + 1):
            if e not in self._found:
                self._found[e] = self._thread.submit(epoch_order, self._seed, e, self._n)
        return self._found[epoch]

    def __call__(self, epoch: int) -> np.ndarray:
        """Waits for the order."""
        return self.coming(epoch).result()

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
