"""SequentialAttention++ (Yasuda, Axiotis, Fu, Bateni, Mirrokni, NeurIPS 2024, arXiv 2402.17902).

A softmax over the blocks of a layer multiplies them, W_hat = W * A * Mask with mean(A) = 1 (Algorithm 1),
and the blocks with the largest A survive. The attention is active and trained in every phase; the plan
`sequential_attention` tightens and frees the mask, and resets the optimiser between phases.
"""

from sparsity.contract import Method
from sparsity.families import gated
from sparsity.gates import softmax
from sparsity.units.partition import Partition


def sequential_attention(
    partition: Partition,
    *,
    clip: bool = False,
    start_spread: float = 0.0,
) -> Method:
    """Trains one logit per block and keeps the blocks with the largest, layer by layer.

    clip: the attention to [density, 1/density] (appendix C.1), the plan's target density, in the
    forward pass only. start_spread: standard deviation of the logits' start; the paper leaves it open.

    Unlike the paper, blocks are ranked by their logits, which a clip does not tie.
    """
    return gated(partition, softmax(clip), start_spread=start_spread)
