"""Arrays of which other processes hold parts, whole on this host."""

from typing import Any

import jax
from jax.experimental import multihost_utils


def whole(tree: Any) -> Any:
    """The tree's arrays as numpy's; called by all processes, as each gives its parts."""
    return jax.tree.map(_whole, tree)


def _whole(array: Any) -> Any:
    if getattr(array, "is_fully_addressable", True) or array.is_fully_replicated:
        return jax.device_get(array)
    return multihost_utils.process_allgather(array, tiled=True)
