"""How long the device waits for click logs: the step alone, the host alone, and both together, in one run.

    python -m experiments.bench_criteo [--batches=32768] [--steps=5] [--rows=2000000] [--entries=1000000]

The step is that of the paper's network (39 embeddings of width 10, three layers of 400, Adam) on rows of random
numbers of the real set's shape. Resident rows lie on the device; gathered rows come from an array on the host
(on the disk with --mapped). The idle share is 1 - (step alone) / (step with gathered rows).
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import command
from experiments.assembly.placement import Placement, placement
from experiments.assembly.sets import TABLES, Sets, drawing, feeding
from experiments.surroundings import surroundings
from sparsity import models
from sparsity.contract import Signals
from sparsity.data.gathered import Gathered
from sparsity.data.tables import Table
from sparsity.methods.magnitude import magnitude
from sparsity.plan.phases import Kind, Phase
from sparsity.target import Target, context_of
from sparsity.train.forward import linen
from sparsity.train.optimizer import optimizer
from sparsity.train.step import Programs, Span, programs
from sparsity.units.blocks import Rule, blocks

NUMBERS, CATEGORIES = 13, 26
HOST_STEPS = 40


def table(rows: int, entries: int, folder: Path | None) -> Table:
    """Rows of random numbers, in memory or in a file of the folder that is mapped."""
    rng = np.random.default_rng(0)
    found = np.empty((rows, 1 + NUMBERS + CATEGORIES), np.int32)
    found[:, 0] = rng.random(rows) < 0.256
    found[:, 1 : 1 + NUMBERS] = rng.geometric(0.02, (rows, NUMBERS))
    ranks = np.exp(rng.random((rows, CATEGORIES), np.float32) * np.log(entries / CATEGORIES))
    found[:, 1 + NUMBERS :] = ranks + np.arange(CATEGORIES) * (entries // CATEGORIES) - 1
    if folder:
        np.save(folder / "rows.npy", found)
        found = np.load(folder / "rows.npy", mmap_mode="r")
    return Table("random", found, np.arange(rows, dtype=np.int32), NUMBERS, entries)


def stepper(held: Table, batch: int, streamed: bool, place: Placement) -> Callable[[int], Any]:
    """step -> the step's number on the device; a step takes its rows from the device or from the host."""
    rows = None if streamed else place.put(TABLES.resident(held))
    sets = Sets(TABLES, held, held, rows, rows)
    made, target = _programs(sets, place)
    context = context_of(target, Phase(Kind.SPARSE, 1))
    fresh = place.put(made.create(jax.random.key(0), TABLES.example(held)))
    state, _ = made.tick(fresh, context, Signals())
    source = feeding(sets, 0, batch, place)
    span = jax.device_put(Span(np.int32(0), np.int32(1000), np.float32(1.0)))

    def step(i: int) -> Any:
        nonlocal state
        state = made.train(state, source(i), context, span, frozen=(), dead="kept")
        return state.step

    return step


def _programs(sets: Sets, place: Placement) -> tuple[Programs, Target]:
    """Those of the paper's network, with a tenth of its first layer's blocks kept."""
    model = linen(models.build("clicks", facts=TABLES.facts(sets.train)))
    shapes, _ = jax.eval_shape(model.init, jax.random.key(0), TABLES.example(sets.train))
    rules = [Rule("params/dense[2-9]/kernel"), Rule("*", (10, 10))]
    target = Target.of(blocks(shapes, rules, density="0.1"))
    rate = {"learning_rate": 2e-2, "final": 3e-4, "schedule": "exponential", "steps": 1000}
    tx, draw = optimizer(name="adam", **rate), drawing({"augment": False}, sets, place)
    method, objective = magnitude(target.partition), TABLES.objective(0.0)
    return programs(model, method, target.partition, tx, draw, objective), target


def seconds(step: Callable[[int], Any], steps: range) -> float:
    """Per step, over some that follow one another without waiting for the device in between."""
    began = time.perf_counter()
    jax.block_until_ready([step(i) for i in steps][-1])
    return (time.perf_counter() - began) / len(steps)


def measure(held: Table, batch: int, steps: int, rounds: int) -> dict[str, float]:
    """Medians over the rounds, in seconds per step; each round times everything in turn."""
    place = placement("", 1, batch)
    alone, fed = (stepper(held, batch, streamed, place) for streamed in (False, True))
    host = Gathered(held, 0, batch, lambda rows: rows)
    timed = {
        "the step alone (resident rows)": alone,
        "the step with gathered rows": fed,
        "gathering alone": host,
    }
    found: dict[str, list[float]] = {name: [] for name in timed}
    for step in timed.values():
        jax.block_until_ready(step(0))
    for i in range(rounds):
        for name, step in timed.items():
            # What was gathered ahead while others were timed must not count: the host alone does many.
            count = HOST_STEPS if step is host else steps
            found[name].append(seconds(step, range(1 + i * count, 1 + (i + 1) * count)))
    host.close()
    return {name: statistics.median(times) for name, times in found.items()}


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    print(surroundings())
    with tempfile.TemporaryDirectory() as folder:
        held = table(ROWS.value, ENTRIES.value, Path(folder) if MAPPED.value else None)
        for batch in map(int, BATCHES.value):
            found = measure(held, batch, STEPS.value, ROUNDS.value)
            print(
                f"batch {batch:,}, {held.size:,} rows, {held.entries:,} embedding rows", flush=True
            )
            for name, each in found.items():
                print(f"  {name:<32} {1000 * each:9.2f} ms {batch / each:14,.0f} rows/s")
            alone, fed, _ = found.values()
            print(f"  idle share of the device         {max(0.0, 1 - alone / fed):9.1%}")


if __name__ == "__main__":
    BATCHES = flags.DEFINE_list("batches", ["32768"], "Rows per step.")
    STEPS = flags.DEFINE_integer("steps", 5, "Steps that are timed together.", lower_bound=1)
    ROUNDS = flags.DEFINE_integer("rounds", 5, "Times that each is timed.", lower_bound=1)
    ROWS = flags.DEFINE_integer("rows", 2_000_000, "Rows of the table.", lower_bound=1)
    ENTRIES = flags.DEFINE_integer("entries", 1_000_000, "Embedding rows.", lower_bound=100)
    MAPPED = flags.DEFINE_bool("mapped", False, "The rows lie in a file that is mapped.")
    command.run(main, known=(ValueError, OSError))
