"""In which form a served program takes each pruned weight: its live blocks, the dense weight, or both.

Unpacking a weight costs a pass over all of it, which a product of few rows takes no longer than. So where
products with it run dense the loader unpacks it, once, and no program ever does.
"""

from collections.abc import Mapping, Sequence

from sparsity.kernels import choice
from sparsity.kernels.calls import Call
from sparsity.kernels.served import BOTH, DENSE, PACKED
from sparsity.surgery.substitution import Uses


def refusal(platform: str, call: Call) -> str:
    """Why a product is not to run on a kernel, in words; "" where it is.

    What it is compared with is a weight that is held dense, not the fall-back, which unpacks one.
    """
    chosen = choice.choose(platform, call)
    if call.path == "dense":
        return "dense products are asked for"
    if chosen.ratio and (call.path == "sparse" or chosen.ratio >= 1):
        return ""
    slower = f"the kernel would be slower; {chosen.source}"
    return slower if chosen.ratio else chosen.source


def forms_of(uses: Uses) -> dict[str, str]:
    """The form of each weight by how it is used; live blocks for what is not used at all."""
    return {name: _form({isinstance(use, Call) for use in found}) for name, found in uses.items()}


def _form(kernels: set[bool]) -> str:
    if kernels == {True, False}:
        return BOTH
    return DENSE if kernels == {False} else PACKED


def said(uses: Mapping[str, Uses], dense: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """By weight and platform, what becomes of it in each place where it is used, in words.

    uses:  by platform. dense: why a gated weight is not packed at all, by its path.
    """
    every = {name: None for found in uses.values() for name in found}
    packed = {
        name: {platform: _words(platform, found[name]) for platform, found in uses.items()}
        for name in every
    }
    return packed | {
        name: {key: [f"unpacked: {why}"] for key in uses} for name, why in dense.items()
    }


def _words(platform: str, uses: Sequence[Call | str]) -> list[str]:
    return [
        f"unpacked: {use}" if isinstance(use, str) else _gain(choice.choose(platform, use))
        for use in uses
    ]


def _gain(chosen: choice.Choice) -> str:
    return f"block-sparse: {chosen.ratio:.2f} times as fast as dense, {chosen.why}"
