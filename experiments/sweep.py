"""A family of runs side by side: runs what is missing, and writes accuracies and how the masks moved.

    python -m experiments.sweep --config=configs/sweeps/attention.py [--workers=2]

Called again it skips what is done. The runs are scored on a validation split cut from the training set,
so that what is chosen here can still be reported on the test set.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from experiments import command
from experiments.reporting import families
from experiments.surroundings import surroundings
from experiments.sweeps import outcomes, pool
from experiments.sweeps.points import Job, Point, jobs, points

Runner = Callable[[Sequence[Job]], dict[str, pool.Outcome]]


def run(config: Mapping[str, Any], runner: Runner) -> list[families.Row]:
    """One row per point, of its runs over the seeds. Raises ValueError as `points` and `jobs` do."""
    family, seeds = points(config["sweep"]), config["seeds"]
    every = jobs(
        config["base"], [{**config["set"], **point, "seed": s} for point in family for s in seeds]
    )
    ended = runner(every)
    rows = []
    for i, point in enumerate(family):
        own = [ended[job.name] for job in every[i * len(seeds) : (i + 1) * len(seeds)]]
        rows.append(_row(_name(config["sweep"], i), point, own))
    return rows


def _name(sweep: Mapping[str, Any], i: int) -> str:
    """What a named sweep calls its i-th point; "" in any other."""
    return list(sweep["named"])[i] if list(sweep) == ["named"] else ""


def _row(name: str, point: Point, ended: Sequence[pool.Outcome]) -> families.Row:
    done = [o for o in ended if o.summary]
    accuracies = {o.job.config["seed"]: 100 * o.summary["accuracy"] for o in done}
    causes = tuple(o.cause for o in ended if o.cause)
    moves = tuple(families.moves(o.folder / "metrics.jsonl") for o in done)
    return families.Row(name, point, accuracies, causes, moves)


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    config = json.loads(CONFIG.value.to_json())
    name = Path(command.file_of("config")).stem
    folder = Path(str(WORKDIR.value)) / name
    runner = partial(outcomes.run, workers=WORKERS.value) if RUN.value else outcomes.read
    rows = run(config, partial(runner, folder=folder))
    how = {
        "command": f"python -m experiments.sweep --config=configs/sweeps/{name}.py",
        "surroundings": surroundings(),
        "set": config["set"],
        "seeds": config["seeds"],
    }
    written = families.write(Path(str(OUT.value)) / name, config["title"], rows, how)
    print(families.text(rows))
    print(f"\n{', '.join(str(path) for path in written)}")


if __name__ == "__main__":
    CONFIG = config_flags.DEFINE_config_file("config", None, "The sweep's config file.")
    WORKDIR = flags.DEFINE_string("workdir", "runs/sweeps", "Where the runs go.")
    OUT = flags.DEFINE_string("out", "docs/results", "Where the results go.")
    WORKERS = flags.DEFINE_integer("workers", 0, "Runs at a time; 0: one per core.", lower_bound=0)
    RUN = flags.DEFINE_bool("run", True, "False: write what is done.")
    flags.mark_flag_as_required("config")
    command.run(main, known=(ValueError, OSError))
