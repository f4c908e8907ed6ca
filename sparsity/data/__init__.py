"""Image sets in memory, on the device and through host pipelines; the order in which they are seen.

`pipeline` is not imported here, for it needs grain.
"""

from sparsity.data.datasets import Dataset, load, load_splits
from sparsity.data.order import epoch_order, eval_batches, indices, steps_per_epoch
from sparsity.data.resident import Resident, batch

__all__ = [
    "Dataset",
    "Resident",
    "batch",
    "epoch_order",
    "eval_batches",
    "indices",
    "load",
    "load_splits",
    "steps_per_epoch",
]
