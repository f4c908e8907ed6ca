"""The masks of a run that has not come to its end, as its last checkpoint holds them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.reporting.runs import matrices
from experiments.running.workdir import Workdir
from sparsity.train import checkpoint

MEMORY, MASKS = "wrapped/memory/", "/masks/"


class Saved(NamedTuple):
    """Masks as matrices by group, the step at which they were saved, and what was damaged."""

    masks: dict[str, np.ndarray]
    step: int | None
    notes: list[str]


def masks(folder: Path) -> Saved:
    """Those of the newest intact checkpoint of the run in `folder`; none of a method that keeps none."""
    saved, notes = Workdir(folder).checkpoints, []
    for step in steps(saved)[::-1]:
        try:
            tree = checkpoint.restore(saved, _like(saved / str(step)), step)[0]
            return Saved(matrices(_masks(tree)), step, notes)
        except Exception as error:  # noqa: BLE001 - a foreign file may make Orbax raise anything
            said = str(error).strip() or type(error).__name__
            notes.append(f"the checkpoint of step {step}: {said.splitlines()[-1].strip()}")
    return Saved({}, None, notes)


def steps(folder: Path) -> list[int]:
    """Of the checkpoints in a folder, damaged or not, rising."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal() and len(name) < 16)


def _like(folder: Path) -> dict[str, Any]:
    """What a checkpoint says that it holds, by path; nothing where it cannot be read, as it is verified."""
    try:
        listed = json.loads((folder / "tree.json").read_text())
        return {name: np.empty(shape, jnp.dtype(kind)) for name, (kind, shape, _) in listed}
    except (OSError, ValueError):
        return {}


def _masks(tree: dict[str, Any]) -> dict[str, np.ndarray]:
    """Of all leaves, by path, the masks in the method's memory by group."""
    own = {path: leaf for path, leaf in tree.items() if path.startswith(MEMORY) and MASKS in path}
    return {path.partition(MASKS)[2]: leaf for path, leaf in own.items() if leaf.dtype == bool}
