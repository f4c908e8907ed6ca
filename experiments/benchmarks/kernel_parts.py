"""One part of a kernel benchmark: a layer in one dtype and block, at all densities, timed in the same rounds."""

import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.benchmarks import kernel_programs
from experiments.benchmarks.kernel_clock import Program, milliseconds
from experiments.benchmarks.kernel_layers import Layer

VERBS = ("forward", "dX", "dW", "step")


class Part(NamedTuple):
    """What is measured at once."""

    layer: Layer
    dtype: str
    block: int
    densities: Sequence[float]
    peers: bool

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from the others of a file."""
        return self.layer.name, self.dtype, self.block


def measure(part: Part, rounds: int) -> dict[str, Any]:
    """Milliseconds of the dense programs, and ratios of dense to sparse, as plain data.

    Every round times each program once, in turn; medians over the rounds are divided, and as "best" the
    fastest rounds, which a busy machine disturbs least.
    """
    sparse, peers = _programs(part)
    dense = kernel_programs.dense(part.layer, part.dtype)
    fallback = kernel_programs.sparse(
        part.layer, part.dtype, part.block, max(part.densities), "dense"
    )
    programs = dense | sparse | peers | {f"{v} fall-back": p for v, p in fallback.items()}
    rounds_of = milliseconds(programs, rounds)
    ms = {name: statistics.median(found) for name, found in rounds_of.items()}
    least = {name: min(found) for name, found in rounds_of.items()}
    names = [*sparse, *peers]
    layer = part.layer
    return {
        "layer": layer.name,
        "count": layer.count,
        "shape": layer.shape,
        "geometry": layer.geometry,
        "dtype": part.dtype,
        "block": part.block,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        "dense ms": {verb: ms[f"dense {verb}"] for verb in VERBS},
        "ratios": _ratios(ms, names),
        "best": _ratios(least, names),
        "fall-back": {verb: ms[f"dense {verb}"] / ms[f"{verb} fall-back"] for verb in VERBS},
    }


def _ratios(ms: Mapping[str, float], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """What is measured -> per cent -> dense over sparse; a peer's products are forward ones."""
    ratios: dict[str, dict[str, float]] = {}
    for name in names:
        what, percent = name.rsplit(" ", 1)
        verb = what if what in VERBS else "forward"
        ratios.setdefault(what, {})[percent] = ms[f"dense {verb}"] / ms[name]
    return ratios


def bandwidth(rounds: int) -> float:
    """Bytes per second that a copy larger than any cache reads and writes."""
    megabytes = 256
    (found,) = milliseconds({"copy": kernel_programs.copy(megabytes)}, rounds).values()
    return 2 * megabytes * 2**20 / (min(found) / 1000)


def _programs(part: Part) -> tuple[dict[str, Program], dict[str, Program]]:
    """Those on live blocks and the peers', each name with its density in per cent behind it."""
    layer, dtype, block = part.layer, part.dtype, part.block
    found: dict[str, Program] = {}
    others: dict[str, Program] = {}
    for percent in part.densities:
        named = kernel_programs.sparse(layer, dtype, block, percent, "sparse")
        named |= kernel_programs.unbalanced(layer, dtype, block, percent)
        named |= kernel_programs.rivals(layer, dtype, block, percent)
        found |= {f"{name} {percent:g}": program for name, program in named.items()}
        if part.peers and layer.geometry is None and dtype == "float32":
            named = kernel_programs.peers(layer, block, percent)
            others |= {f"{name} {percent:g}": program for name, program in named.items()}
    return found, others
