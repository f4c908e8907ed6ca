"""From a benchmark's results to the table that products are dispatched by, and how far the model is from it."""

import math
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple

from sparsity.kernels import model, tuned
from sparsity.kernels.tuned import Entry

VERBS = {"forward": "forward", "dX": "dx", "dW": "dw"}


class Error(NamedTuple):
    """How the model's ratios differ from measured ones.

    median, worst: factors, 1 where they agree.
    wrong, of: how often the model would take the slower path, and of how many.
    """

    median: float
    worst: float
    wrong: int
    of: int

    def __str__(self) -> str:
        return (
            f"The model's ratio is off by a factor of {self.median:.2f} in the median and {self.worst:.1f} "
            f"at worst, and takes the slower path in {self.wrong} of {self.of} measured cases."
        )


def entries(results: Mapping[str, Any]) -> list[Entry]:
    """One entry per part and verb: the lesser of a ratio of medians and one of fastest rounds.

    Raises ValueError where nothing was measured.
    """
    found = []
    for part in results["parts"]:
        for verb, name in VERBS.items():
            best = part.get("best", part["ratios"])[verb]
            ratios = {
                float(p) / 100: round(min(r, best[p]), 3) for p, r in part["ratios"][verb].items()
            }
            block, shape = (part["block"],) * 2, tuple(part["shape"])
            geometry = part["geometry"] and tuned.geometry_from(*part["geometry"])
            found.append(Entry(name, part["count"], shape, block, part["dtype"], geometry, ratios))
    if not found:
        raise ValueError("nothing has been measured that a table could be made of")
    return found


def error(platform: str, found: list[Entry]) -> Error:
    """The model against measured entries."""
    pairs = [
        (measured, model.predicted(platform, entry.at(density)))
        for entry in found
        for density, measured in entry.ratios.items()
    ]
    factors = [math.exp(abs(math.log(a / b))) for a, b in pairs if b]
    wrong = sum((a >= 1) != (b >= 1) for a, b in pairs)
    return Error(statistics.median(factors), max(factors), wrong, len(pairs))


def write(results: Mapping[str, Any], folder: pathlib.Path) -> pathlib.Path:
    """Writes the table of the results' device into a folder; gives its file."""
    here, found = results["surroundings"], entries(results)
    off = error(here["platform"], found)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{tuned.slug(here['device'])}.json"
    file.write_text(tuned.written(found, here["device"], model=str(off)))
    return file
