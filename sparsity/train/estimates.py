"""Whether a layer's step is expected to be faster on live blocks than masked, by the kernels' own word."""

import functools
import math
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
# What kernels are for that are not for float32.
HALF = "bfloat16"


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
    ask = functools.partial(
        _explained, block=block, live=live, examples=examples, platform=platform
    )
    found = ask(site)
    step, forward = found.step_on(path), found.choices["forward"]
    least = LEAST if site.pointwise or forward.tuned else LEAST_UNTUNED_WINDOW
    blocks = math.prod(grid_of(site.matrix, block))
    share = f"{live} of {blocks} blocks live, their products {step:.2f} times as fast as dense"
    asked = "" if step >= least or path == "sparse" else f"; {least:g} times are asked"
    refusal = _refusal(found)
    if refusal:
        refusal = _advised(refusal, _refusal(ask(site._replace(dtype=HALF))))
    return Estimate(refusal, step >= least, f"{share} {forward.source}{asked}")


def _explained(
    site: Site, block: tuple[int, int], live: int, examples: int, platform: str
) -> Explanation:
    geometry = None if site.pointwise else site.geometry
    count = examples * (site.rows if geometry is None else 1)
    density = live / math.prod(grid_of(site.matrix, block))
    shape, on = (count, *site.matrix), lowered(platform)
    return explain(shape, block, density, site.dtype, geometry=geometry, platform=on)


def _refusal(found: Explanation) -> str:
    """Why there is no kernel for one of the products, where there is none."""
    missing = [choice.why for choice in found.choices.values() if not choice.ratio]
    return missing[0] if missing else ""


def _advised(here: str, half: str) -> str:
    """A refusal, with what would be said of a network that computes in half as many bits."""
    if here == half:
        return here
    said = half or f"there is one: set the network's dtype to {HALF}"
    return f"{here}; in {HALF} {said}"
