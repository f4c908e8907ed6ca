"""Any mask with any score: the framework that SequentialAttention++ argues for (arXiv 2402.17902).

A differentiable mask or reparametrisation is a nonconvex regulariser; a score is a rule of combinatorial
search. Penalties and plans are chosen beside them, in sections of their own.
"""

from sparsity.contract import Method, chain
from sparsity.families import decayed, gated, hard, selection
from sparsity.gates import GATES
from sparsity.methods.powerprop import reparametrisation
from sparsity.named import choose, unknown
from sparsity.units.partition import Partition
from sparsity.units.scores import SCORES

REPARAMETRISATIONS = {"block_powerprop": "block", "powerprop": "weight"}
MASKS = ("none", *GATES, *REPARAMETRISATIONS)


def grid(
    partition: Partition,
    *,
    mask: str = "none",
    score: str = "l2",
    select: str = "per_group",
    floor: int = 1,
    batches: int = 1,
    clip: bool = False,
    start_spread: float = 0.0,
    alpha: float = 2.0,
    mask_penalty: str = "none",
    strength: float = 0.0,
) -> Method:
    """A differentiable mask, and a score that ranks the blocks of what it leaves.

    mask:  none, softmax, exponential, hoff, sigmoid, block_powerprop, powerprop.
    score: l2, l1, max, saliency, fisher, random, or attention (the mask's own number).
    select, floor, batches: as in `magnitude`. clip, start_spread: as in `sequential_attention`.
    alpha: PowerPropagation's exponent.
    mask_penalty, strength: strength * (||w||^2 or ||w||_1, plus ||beta||^2) for "l2" or "l1" over the
           mask's numbers w and the weights beta (section 2 of the paper).

    Raises ValueError for pairs that make no sense (see `refusal`).
    """
    if mask not in MASKS:
        raise unknown("mask", mask, MASKS)
    if score != "attention":
        choose("score", score, {**SCORES, "attention": None})
    if reason := refusal(mask, score, select, clip, mask_penalty, strength):
        raise ValueError(f"mask={mask!r} with score={score!r}, select={select!r}: {reason}")
    choice = selection(select, floor)
    rest = [] if score == "attention" else [hard(partition, SCORES[score], choice, batches)]
    if mask == "none":
        return rest[0]
    if mask in REPARAMETRISATIONS:
        return chain(reparametrisation(partition, alpha, REPARAMETRISATIONS[mask]), *rest)
    gate = GATES[mask](clip=clip) if mask == "softmax" else GATES[mask]()
    soft = gated(partition, gate, None if rest else choice, start_spread)
    if mask_penalty != "none":
        soft = decayed(soft, partition, strength, {"l1": 1, "l2": 2}[mask_penalty])
    return chain(soft, *rest) if rest else soft


def refusal(
    mask: str, score: str, select: str, clip: bool, mask_penalty: str, strength: float = 0.0
) -> str:
    """Why a pair makes no sense, "" where it does."""
    if score == "attention" and mask not in GATES:
        return "attention ranks by a mask's own numbers, and this mask has none"
    if score == "attention" and mask == "softmax" and select == "globally":
        return "logits of different softmaxes share no scale, so they can't be ranked globally"
    if clip and mask != "softmax":
        return "clip belongs to the softmax mask"
    if mask_penalty not in ("none", "l1", "l2"):
        return f"mask_penalty is none, l1 or l2, not {mask_penalty!r}"
    if mask_penalty != "none" and mask not in GATES:
        return "mask_penalty needs a mask with numbers of its own"
    if strength and mask_penalty == "none":
        return "strength is the mask_penalty's, and there is none"
    return ""
