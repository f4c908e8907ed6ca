"""What a product would run on, before it does: path, reason and expected ratio."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp

from sparsity.kernels import choice, platforms, tuned
from sparsity.kernels.calls import VERBS, Call
from sparsity.kernels.choice import Choice
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import grid_of


class Explanation(NamedTuple):
    """The three products of one weight, each with its path; print it.

    product: the sizes in words.
    device:  what they would run on.
    choices: verb -> choice.
    """

    product: str
    device: str
    choices: Mapping[str, Choice]

    @property
    def step(self) -> float:
        """Expected time of a step with a dense weight (all three products) over that of the chosen paths.

        Below 1 a weight that is kept dense and masked is faster than packed blocks.
        """
        return self.step_on("auto")

    def step_on(self, path: str) -> float:
        """`step` where every product asks for a path; "sparse" takes slower kernels too."""
        forced = path == "sparse"
        ratios = [c.ratio if forced and c.ratio else c.taken for c in self.choices.values()]
        return len(ratios) / sum(1 / ratio for ratio in ratios)

    def __str__(self) -> str:
        lines = [f"{self.product}, on {self.device}:"]
        for verb, chosen in self.choices.items():
            times = f"kernel {chosen.ratio:.2f} times as fast as dense, " if chosen.ratio else ""
            times += f"fall-back {chosen.fallback:.2f} times; "
            lines.append(f"  {verb}: {chosen.path} ({times}{chosen.why})")
        return "\n".join([*lines, f"  training step: {self.step:.2f} times as fast as dense"])


def explain(
    shape: tuple[int, int, int],
    block: tuple[int, int],
    density: float,
    dtype: str = "float32",
    *,
    geometry: Geometry | None = None,
    platform: str | None = None,
) -> Explanation:
    """What runs for x (M, K) times W (K, N), and why.

    shape:    (M, K, N); (images, K, N) with the geometry of a convolution, where K is taps * channels.
    density:  the share of blocks that the layout has room for, in (0, 1].
    platform: "cpu", "cuda" or "tpu"; None is where jax runs now. Another platform's is the model's word.

    The choice is made where a program is lowered, from these static facts alone: a layout counts with its
    capacity. With fewer live blocks the kernel is faster than is said here, and the choice stays as it is.
    Raises ValueError for a density outside (0, 1] and sizes that are no positive integers.
    """
    (count, k, n), (rows, cols) = shape, grid_of(shape[1:], block)
    if not 0 < density <= 1:
        raise ValueError(f"a density lies in (0, 1], not {density!r}")
    if not (isinstance(count, int) and count > 0):
        raise ValueError(f"x has a positive number of rows, not {count!r}")
    name = platforms.here() if platform is None else platform
    live, kind = max(1, round(density * rows * cols)), jnp.dtype(dtype).name
    calls = {v: Call(v, count, (k, n), block, live, kind, geometry=geometry) for v in VERBS}
    words = f"{count} x {k} x {n} in blocks of {block[0]} x {block[1]}, {100 * density:.3g}% of them, {kind}"
    device = tuned.device_of(name) or f"{name}, which is not here"
    return Explanation(words, device, {v: choice.choose(name, call) for v, call in calls.items()})
