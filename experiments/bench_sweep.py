"""What a sweep costs per run beside the runs themselves, in seconds, on this machine.

    python -m experiments.bench_sweep [--runs=16] [--steps=100] [--workers=2] [--workdir=DIR]

Runs of one method on digits, which differ in density and seed, go through the pool of `experiments.sweep`. Of
every process's time from the pool's start to its end, what the runs' own summaries do not account for is the
sweep's: starting the processes (once each), assembling, and handing jobs and outcomes over. A second call of the
pool over what is done gives the cost of a run that is skipped.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import flags

from experiments import command
from experiments.surroundings import surroundings
from experiments.sweeps import outcomes
from experiments.sweeps.jobs import Job, jobs
from experiments.sweeps.slots import Wish, slots

DENSITIES = ("0.5", "0.2", "0.1", "0.05")


def measure(folder: Path, runs: int, steps: int, workers: int) -> dict[str, Any]:
    """Seconds: of the whole, of the runs, and per run of what is neither."""
    family, wish = _family(runs, steps), Wish(workers)
    count = min(len(slots(wish)), len(family))
    whole, summaries = _timed(family, folder, wish)
    skipped, _ = _timed(family, folder, wish)
    own = sum(summary["seconds"] for summary in summaries)
    return {
        "runs": len(family),
        "processes": count,
        "wall": round(whole, 2),
        "runs' own seconds": round(own, 2),
        "overhead per run": round((count * whole - own) / len(family), 3),
        "overhead per run that is done": round(count * skipped / len(family), 3),
        **surroundings(),
    }


def _family(runs: int, steps: int) -> list[Job]:
    fields = {"argument": "magnitude", "steps": steps, "log_every": steps}
    places = [(d, seed) for seed in range(runs) for d in DENSITIES][:runs]
    return jobs("configs/digits.py", [{**fields, "density": d, "seed": seed} for d, seed in places])


def _timed(family: list[Job], folder: Path, wish: Wish) -> tuple[float, list[dict[str, Any]]]:
    start = time.perf_counter()
    ended = outcomes.run(family, folder, wish)
    return time.perf_counter() - start, [outcome.summary for outcome in ended.values()]


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    with tempfile.TemporaryDirectory() as made:
        folder = Path(WORKDIR.value or made)
        found = measure(folder, RUNS.value, STEPS.value, WORKERS.value)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    RUNS = flags.DEFINE_integer("runs", 16, "Runs of the sweep.", lower_bound=1)
    STEPS = flags.DEFINE_integer("steps", 100, "Steps of each.", lower_bound=1)
    WORKERS = flags.DEFINE_integer("workers", 0, "Processes; 0: one per core.", lower_bound=0)
    WORKDIR = flags.DEFINE_string("workdir", "", "An empty folder to use; '' for one that goes.")
    command.run(main, known=(ValueError, OSError))
