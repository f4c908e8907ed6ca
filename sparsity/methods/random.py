"""Random pruning: what any method must beat."""

from sparsity.contract import Method
from sparsity.methods.magnitude import magnitude
from sparsity.units.partition import Partition


def random(partition: Partition, *, select: str = "per_group") -> Method:
    """Keeps blocks at random, one draw for the whole run, so that gradual masks are nested."""
    return magnitude(partition, score="random", select=select)
