"""Whether a product runs on a kernel or dense: from a measured table, else from a model.

At what was measured the expected ratio is the measured one. Elsewhere the model's ratio is corrected by
what the nearest measured entry had over the model's ratio there, so that a table of few shapes serves others.
"""

import math
from typing import Any, NamedTuple

from sparsity.kernels import backends, model, tuned
from sparsity.kernels.calls import Call
from sparsity.kernels.tuned import Entry

# Platforms whose kernels are told the number of rows when they run.
OPEN = ("cpu",)


class Choice(NamedTuple):
    """What runs, and why.

    path:     "sparse" for the kernel, "dense" for the fall-back.
    ratio:    expected time of a dense product over that of the kernel; 0 where there is no kernel.
    fallback: the same of the fall-back: below 1, as it unpacks the weight.
    source:   where the ratio comes from, or why there is no kernel, in words.
    tuned:    whether a product like it was measured on this device, so that the model is not alone.
    """

    path: str
    ratio: float
    fallback: float
    source: str
    tuned: bool = False

    @property
    def why(self) -> str:
        """The reason for the path, in words."""
        slower = self.path == "dense" and self.ratio
        return f"the kernel would be slower; {self.source}" if slower else self.source

    @property
    def taken(self) -> float:
        """The expected ratio of the path that runs."""
        return self.ratio if self.path == "sparse" else self.fallback


def choose(platform: str, call: Call) -> Choice:
    """The faster path of a call lowered for a platform; what `call.path` asks for is not looked at."""
    reason = served(platform, call)[1]
    dense = model.fallback(platform, call)
    if reason:
        return Choice("dense", 0.0, dense, reason)
    ratio, source, measured = expected(platform, call)
    return Choice("sparse" if ratio >= dense else "dense", ratio, dense, source, measured)


def served(platform: str, call: Call) -> tuple[Any, str]:
    """The backend that can run a call lowered for a platform, and why it is not the platform's own, or ""."""
    if isinstance(call.count, int) and call.count < 1:
        return backends.dense, "there are no rows to multiply"
    if not isinstance(call.count, int) and platform not in OPEN:
        left_open = (
            f"the kernels for {platform} are compiled for a number of rows, which is left open"
        )
        return backends.dense, left_open
    return backends.backend_of(platform, call.layout, call.dtype, call.geometry)


def module_of(platform: str, call: Call) -> Any:
    """The backend that a call runs on when it is lowered for a platform."""
    if call.path == "dense" or (call.path == "auto" and choose(platform, call).path == "dense"):
        return backends.dense
    return served(platform, call)[0]


def expected(platform: str, call: Call) -> tuple[float, str, bool]:
    """The expected ratio, where it comes from in words, and whether from a measurement on this device."""
    plain = model.predicted(platform, call)
    table = tuned.table_of(platform)
    near = nearest(table.entries, call) if table else None
    if table is None or near is None or not plain:
        return plain, f"by the model of {model.name_of(platform)}", False
    ratio = plain * correction(platform, near, call.density)
    if _distance(near, call) == 0 and call.geometry == near.geometry:
        return ratio, f"as measured on {table.device}", True
    (k, n), (rows, cols) = near.shape, near.block
    place = f"{model.rows_of(near.at(1.0))} x {k} x {n} in blocks of {rows} x {cols}"
    return ratio, f"by the model, corrected by what was measured on {table.device} at {place}", True


def nearest(entries: tuple[Entry, ...], call: Call) -> Entry | None:
    """The measured entry of the same verb and dtype that is most like the call; None without one."""
    alike = [e for e in entries if (e.verb, e.dtype) == (call.verb, call.dtype)]
    alike = [e for e in alike if (e.geometry is None) == (call.geometry is None)]
    return min(alike, key=lambda entry: _distance(entry, call), default=None)


def correction(platform: str, entry: Entry, density: float) -> float:
    """Measured over predicted ratio of an entry, between its densities by a line in their logarithms."""
    points = [
        (math.log(d), math.log(r / _model(platform, entry, d))) for d, r in entry.ratios.items()
    ]
    at = math.log(density)
    below = max((p for p in points if p[0] <= at), default=min(points))
    above = min((p for p in points if p[0] >= at), default=max(points))
    if above[0] == below[0]:
        return math.exp(below[1])
    share = (at - below[0]) / (above[0] - below[0])
    return math.exp(below[1] + share * (above[1] - below[1]))


def _model(platform: str, entry: Entry, density: float) -> float:
    return model.predicted(platform, entry.at(density))


def _distance(entry: Entry, call: Call) -> float:
    """Doublings between the sizes; a block's count four times, as nothing else changes the ratio so much."""
    apart = lambda a, b: abs(math.log2(a / b))
    rows = apart(model.rows_of(entry.at(1.0)), model.rows_of(call))
    sizes = sum(map(apart, entry.shape, call.shape))
    return rows + sizes + 4 * sum(map(apart, entry.block, call.block))
