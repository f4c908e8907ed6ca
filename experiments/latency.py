"""Measures what a batch through the final models of runs takes here, dense and on live blocks alone.

    python -m experiments.latency runs/tables/fashion_mnist [--batch=64] [--rounds=30]

Folders are looked through to the last; of runs that differ in their seed alone one is measured, and those that were
measured before are left. Both programs are those of the served model (see experiments/export.py), they take turns,
and medians are written into the run's latency.json, from where its table takes them.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import command
from experiments.export import exported
from experiments.reporting import records
from experiments.running.workdir import Workdir, write
from experiments.surroundings import surroundings
from sparsity.kernels import served
from sparsity.kernels.platforms import here

# The served model's forms, by what a table calls them.
FORMS = {"dense": "dense", "block_sparse": "sparse"}


def chosen(paths: Sequence[Path]) -> list[Path]:
    """The finished runs' directories, one for all seeds of a config of which none has been measured."""
    groups: dict[str, list[Path]] = {}
    for one in records.found(paths):
        if one.summary:
            config = json.dumps({**one.config, records.SEED: None}, sort_keys=True)
            groups.setdefault(config, []).append(Path(one.folder))
    return [own[0] for own in groups.values() if not any(map(_measured, own))]


def _measured(run: Path) -> bool:
    return Workdir(run).latency.exists()


def measured(run: Path, batch: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a batch in each form, by medians. Raises ValueError where a run cannot be served."""
    with tempfile.TemporaryDirectory() as made:
        exported(run, Path(made), batch, [here()])
        models = {name: served.load(Path(made), kind) for name, kind in FORMS.items()}
        seconds = _timed(models, rounds)
    found = {name: 1000 * statistics.median(times) for name, times in seconds.items()}
    return {"milliseconds": found, "batch": batch, "rounds": rounds, **surroundings()}


def _timed(models: Mapping[str, served.Served], rounds: int) -> dict[str, list[float]]:
    """Seconds of each model's batches, which take turns on the same examples."""
    shape, dtype = models["dense"].text["input"]
    inputs = jax.device_put(np.random.default_rng(0).integers(0, 256, shape).astype(dtype))
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            jax.block_until_ready(model.call(model.arguments, inputs))
            if turn:  # the first compiles
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main(argv: list[str]) -> None:
    """The command line."""
    for run in chosen([Path(path) for path in argv[1:] or ["runs"]]):
        try:
            found = measured(run, BATCH.value, ROUNDS.value)
        except ValueError as error:
            print(f"{run}: not measured: {error}")
            continue
        write(Workdir(run).latency, found)
        words = ", ".join(f"{name} {ms:.3g} ms" for name, ms in found["milliseconds"].items())
        print(f"{run}: {words}")


if __name__ == "__main__":
    BATCH = flags.DEFINE_integer("batch", 64, "Examples in a batch.", lower_bound=1)
    ROUNDS = flags.DEFINE_integer("rounds", 30, "Times that each program is run.", lower_bound=1)
    command.run(main, known=(ValueError, OSError, ImportError), positional=True)
