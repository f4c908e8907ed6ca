"""Block magnitude pruning, the baseline of every paper: a score of the weights ranks the blocks.

With the plan `one_shot` it is the baseline of arXiv 2402.17902, with `gradual` that of Zhu and Gupta 2017
(arXiv 1710.01878), with `acdc` AC/DC (arXiv 2106.12379).
"""

from sparsity.contract import Method
from sparsity.families import hard, selection
from sparsity.named import choose
from sparsity.units.partition import Partition
from sparsity.units.scores import SCORES


def magnitude(
    partition: Partition,
    *,
    score: str = "l2",
    select: str = "per_group",
    floor: int = 1,
    batches: int = 1,
) -> Method:
    """Keeps the blocks with the best `score`.

    score:   l2 (Frobenius norm), l1, max, saliency, fisher or random.
    select:  per_group, or globally with at least `floor` blocks a layer.
    batches: averaged for a score that reads gradients.
    """
    return hard(partition, choose("score", score, SCORES), selection(select, floor), batches)
