"""Whether a layer's step is expected to be faster on live blocks than masked, by the kernels' own word."""

from typing import NamedTuple

from sparsity.kernels.explain import Explanation, explain
from sparsity.kernels.layout import grid_of
from sparsity.kernels.platforms import lowered
from sparsity.train.site import Site

# A layer's three products have to be expected so much faster: the estimate errs, and a layout costs a little.
LEAST = 1.15
# The same of a convolution on a device that nobody has tuned: for one of 16 channels in blocks of 8 x 8 the
# model said 2.4 where 1.0 was measured (batch 64, a tenth of the blocks, one core of an x86-64 CPU).
LEAST_UNTUNED_WINDOW = 3.5


class Estimate(NamedTuple):
    """refusal: why there is no kernel, in words, or "". pays: whether it is expected to be faster; why."""

    refusal: str
    pays: bool
    why: str


def of(
    site: Site, block: tuple[int, int], live: int, examples: int, platform: str, path: str = "auto"
) -> Estimate:
    """The estimate of a layer with `live` blocks whose step has so many examples on a device.

    path: that its products ask for.
    """
    rows, cols = grid_of(site.matrix, block)
    geometry = None if site.pointwise else site.geometry
    count = examples * (site.rows if geometry is None else 1)
    found = explain(
        (count, *site.matrix),
        block,
        live / (rows * cols),
        site.dtype,
        geometry=geometry,
        platform=lowered(platform),
    )
    step, forward = found.step_on(path), found.choices["forward"]
    least = LEAST_UNTUNED_WINDOW if geometry and not forward.tuned else LEAST
    share = f"{live} of {rows * cols} blocks live, their products {step:.2f} times as fast as dense"
    asked = "" if step >= least or path == "sparse" else f"; {least:g} times are asked"
    return Estimate(_refusal(found), step >= least, f"{share} {forward.source}{asked}")


def _refusal(found: Explanation) -> str:
    """Why there is no kernel for one of the products, where there is none."""
    missing = [choice.why for choice in found.choices.values() if not choice.ratio]
    return missing[0] if missing else ""
