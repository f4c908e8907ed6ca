"""What all processes of a run must have in common: their config and their versions."""

import json
import platform
from collections.abc import Mapping
from typing import Any

from experiments.running.identity import LOCAL, SHOWN, flat
from experiments.surroundings import versions
from sparsity.train.board import Board


def refuse_differing(board: Board, given: Mapping[str, Any], seconds: float) -> None:
    """ValueError, in every process, where one was given another config, or runs under other versions.

    given: the config, and what else must be the same: plain nested data.
    """
    found = [
        json.loads(text) for text in board.gather("given", json.dumps(_compared(given)), seconds)
    ]
    for index, other in enumerate(found):
        if lines := _lines(found[0], other, index):
            listed = "\n  ".join(lines)
            raise ValueError(
                f"processes of one run need one config and the same versions; process {index} differs from "
                f"process 0:\n  {listed}"
            )


def _compared(given: Mapping[str, Any]) -> dict[str, Any]:
    mine = {name: value for name, value in flat(given).items() if name not in LOCAL}
    found = {"python": platform.python_version(), **versions()}
    return {**mine, **{f"version of {name}": version for name, version in found.items()}}


def _lines(first: Mapping[str, Any], other: Mapping[str, Any], index: int) -> list[str]:
    differing = [name for name in {**first, **other} if first.get(name) != other.get(name)]
    lines = [
        f"{name}: {first.get(name)!r} at process 0, {other.get(name)!r} at process {index}"
        for name in differing
    ]
    return lines[:SHOWN] + [f"and {len(lines) - SHOWN} more"] * (len(lines) > SHOWN)
