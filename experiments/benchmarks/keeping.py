"""What a run does beside its steps: checkpoints, and the shares of logging, evaluating, saving."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from configs import digits
from experiments.assembly.assemble import assemble
from experiments.benchmarks.clocks import medians, timed
from experiments.benchmarks.rows import Figure
from experiments.running.launch import run_of
from sparsity.train import checkpoint
from sparsity.train.log import Lines
from sparsity.train.loop import fit
from sparsity.units.partition import leaves

ARGUMENT = "sequential_attention"


def checkpoints(rounds: int) -> list[Figure]:
    """Saving and restoring a state of 1.9M parameters with momentum, beside writing its arrays."""
    state, its = _large_state()
    arrays = list(leaves(state).values())
    with tempfile.TemporaryDirectory() as folder:
        kept, plain = Path(folder) / "kept", Path(folder) / "raw"
        found = medians(
            rounds,
            {
                "save": lambda: timed(lambda: checkpoint.save(kept, 0, state, {})).wall,
                "raw": lambda: timed(lambda: raw(plain, arrays)).wall,
                "restore": lambda: timed(lambda: checkpoint.restore(kept, state)).wall,
            },
        )
        size, raw_size = _bytes(kept / "0"), _bytes(plain)
    return [
        Figure("saving a checkpoint, verified", found["save"], "s", f"{size:,} bytes, {its}"),
        Figure("np.save, fsync of its arrays", found["raw"], "s", f"{raw_size:,} bytes"),
        Figure("restoring it, verified", found["restore"], "s", ""),
    ]


def _large_state() -> tuple[Any, str]:
    config = digits.get_config(ARGUMENT).to_dict()
    config["model"]["widths"] = (1280, 1280)
    experiment = assemble(json.loads(json.dumps(config)))
    state = experiment.shared.programs.create(jax.random.key(0), experiment.inputs)
    # Zeros, as a fresh optimiser has them, would be stored as nothing.
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda x: (rng.normal(size=x.shape) * 100).astype(x.dtype), state)
    return state, f"{len(leaves(state))} arrays"


def shares(rounds: int) -> list[Figure]:
    """The share of a run's time that goes to all that is no step, at the demo's frequencies."""
    config = digits.get_config(ARGUMENT).to_dict()
    config |= {"steps": 2000, "log_every": 100, "evaluate_every": 200, "save_every": 500}
    experiment = assemble(json.loads(json.dumps(config)))
    with tempfile.TemporaryDirectory() as folder:
        # The first run compiles.
        found = [_shares(experiment, Path(folder) / str(i)) for i in range(rounds + 1)][1:]
    every = {"logging": "log", "evaluation": "evaluate", "saving": "save"}
    return [
        Figure(
            f"{name}, share of a run's time",
            100 * statistics.median(one[name] for one in found),
            "%",
            f"every {config[f'{verb}_every']} of {config['steps']} steps of digits",
        )
        for name, verb in every.items()
    ]


def _shares(experiment: Any, folder: Path) -> dict[str, float]:
    """One run, each kind of work under the clock, with nothing of the steps' left to wait for."""
    folder.mkdir()
    lines = Lines(folder / "metrics.jsonl")
    spent = dict.fromkeys(("logging", "evaluation", "saving"), 0.0)

    def clocked(name: str, function: Callable[..., Any], ready: Callable[..., Any]):
        def run(*arguments):
            jax.block_until_ready(ready(*arguments))
            start = time.perf_counter()
            value = function(*arguments)
            spent[name] += time.perf_counter() - start
            return value

        return run

    plain = run_of(experiment)
    saved = lambda place, state: checkpoint.save(folder / "kept", place.step, state, {})
    run = plain._replace(
        emit=clocked("logging", lines.write, lambda record: ()),
        evaluate=clocked("evaluation", plain.evaluate, lambda state, context: state),
        save=clocked("saving", saved, lambda place, state: state),
    )
    state = experiment.shared.programs.create(jax.random.key(0), experiment.inputs)
    start = time.perf_counter()
    jax.block_until_ready(fit(run, state))
    total = time.perf_counter() - start
    lines.close()
    return {name: seconds / total for name, seconds in spent.items()}


def raw(folder: Path, arrays: list[np.ndarray]) -> None:
    """Writes each array with np.save, and waits for the disk."""
    folder.mkdir(exist_ok=True)
    for i, array in enumerate(arrays):
        with (folder / f"{i}.npy").open("wb") as file:
            np.save(file, array)
            os.fsync(file.fileno())


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
