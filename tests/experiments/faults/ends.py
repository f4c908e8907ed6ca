"""What two runs must have in common to have ended with the same bits."""

import json
import pathlib

import jax
import numpy as np

from experiments.assembly.assemble import assemble
from experiments.running.workdir import Workdir
from sparsity.train import checkpoint
from sparsity.units.partition import leaves

FILES = ("metrics.jsonl", "model.safetensors", "model.json", "config.json", "status.json")
# What depends on how a run came to its end.
OWN = ("seconds", "compilations")


def state_of(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Every leaf of the last checkpoint's state: parameters, gates, masks, moments, statistics, keys."""
    experiment = assemble(json.loads((folder / "config.json").read_text()))
    like = experiment.shared.programs.create(jax.random.key(0), experiment.inputs)
    restored, _, notes = checkpoint.restore(folder / "checkpoints", like)
    assert notes == []
    return {path: np.asarray(leaf) for path, leaf in leaves(restored).items()}


def same_end(one: pathlib.Path, other: pathlib.Path) -> None:
    """AssertionError where two runs have left different bits, or one of them a half-written file."""
    for name in FILES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    summaries = [json.loads(Workdir(path).summary.read_text()) for path in (one, other)]
    assert len({json.dumps({**s, **dict.fromkeys(OWN)}) for s in summaries}) == 1
    assert json.loads((one / "status.json").read_text())["status"] == "done"
    states = [state_of(path) for path in (one, other)]
    assert states[0].keys() == states[1].keys() and len(states[0]) > 10
    for path, leaf in states[0].items():
        assert leaf.tobytes() == states[1][path].tobytes(), path
    assert [path for path in one.rglob("*") if path.suffix in (".tmp", ".part")] == []
