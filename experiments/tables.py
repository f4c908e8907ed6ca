"""A table of methods at equal budget and equal tuning: runs what is missing, and writes it down.

    python -m experiments.tables --config=configs/tables/fashion_mnist.py [--workers=2]

Every arm tries as many settings on a validation split cut from the training set; the best goes, with fresh
seeds, once to the test set. Called again it skips what is done. What is not finished stays blank.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from experiments import command
from experiments.reporting import charts, results
from experiments.surroundings import surroundings
from experiments.sweeps import outcomes, pool
from experiments.sweeps.points import Job, Point, points, resolved
from sparsity.named import unknown


class Arm(NamedTuple):
    """A row of the table.

    name:     as printed. argument: of the config file. set: fields that are the arm's own.
    trials:   what its tuning tries, a sweep. like: the arm whose chosen trial it takes instead.
    """

    name: str
    argument: str
    set: Mapping[str, Any]
    trials: Mapping[str, Any]
    like: str = ""


class Trial(NamedTuple):
    """A setting that was tried: its accuracies on the validation split, one per seed that ended."""

    point: Point
    accuracies: tuple[float, ...]
    causes: tuple[str, ...]

    @property
    def mean(self) -> float:
        """Of the accuracies; a setting of which a run failed comes last."""
        failed = self.causes or not self.accuracies
        return -1.0 if failed else sum(self.accuracies) / len(self.accuracies)


def arms(section: Sequence[Mapping[str, Any]]) -> list[Arm]:
    """The arms of a table's config. Raises ValueError for unequal tuning and names that don't exist."""
    found = [
        Arm(a["name"], a["argument"], a.get("set", {}), a.get("trials", {}), a.get("like", ""))
        for a in section
    ]
    names = [arm.name for arm in found]
    for arm in found:
        if arm.like and arm.like not in names:
            raise unknown("arm", arm.like, names)
        if names.count(arm.name) > 1:
            raise ValueError(f"two arms are called {arm.name!r}")
    sizes = {arm.name: len(points(arm.trials)) for arm in found if not arm.like}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"every arm gets as many trials, and these differ: {listed}")
    return found


def tuning_jobs(config: Mapping[str, Any], arm: Arm) -> list[tuple[Point, list[Job]]]:
    """Per trial its runs on the validation split, one per seed."""
    if arm.like:
        return []
    place = {**config["tuning"]["at"], "data.validation": config["tuning"]["validation"]}
    return [
        (trial, [_job(config, arm, {**place, **trial}, seed) for seed in config["tuning"]["seeds"]])
        for trial in points(arm.trials)
    ]


def report_jobs(config: Mapping[str, Any], arm: Arm, chosen: Point) -> list[tuple[Point, Job]]:
    """(cell, run) of an arm's row, on the test set with seeds that tuned nothing."""
    cells = points({"product": config["cells"]})
    if arm.argument.startswith("dense"):
        cells = [{}]
    return [
        (cell, _job(config, arm, {**cell, **chosen}, seed))
        for cell in cells
        for seed in config["seeds"]
    ]


def _job(config: Mapping[str, Any], arm: Arm, point: Point, seed: int) -> Job:
    dense = {"density": "1"} if arm.argument.startswith("dense") else {}
    whole = {"argument": arm.argument, **config["set"], **point, **arm.set, **dense, "seed": seed}
    return Job(whole, resolved(config["base"], whole))


Runner = Callable[[Sequence[Job]], dict[str, pool.Outcome]]


def run(config: Mapping[str, Any], runner: Runner) -> dict[str, Any]:
    """Runs what is missing, tuning first, and returns everything that the table is written from."""
    shared, found = set(config["seeds"]) & set(config["tuning"]["seeds"]), arms(config["arms"])
    if shared:
        raise ValueError(f"the seeds {sorted(shared)} would tune and report; take fresh ones")
    tuned = {arm.name: tuning_jobs(config, arm) for arm in found}
    ended = runner([j for own in tuned.values() for _, js in own for j in js])
    trials = {
        name: [_trial(point, [ended[job.name] for job in js]) for point, js in own]
        for name, own in tuned.items()
    }
    best = {name: max(own, key=lambda t: t.mean).point for name, own in trials.items() if own}
    chosen = {arm.name: best[arm.like or arm.name] for arm in found}
    reported = {arm.name: report_jobs(config, arm, chosen[arm.name]) for arm in found}
    ended = runner([job for own in reported.values() for _, job in own])
    return {
        "title": config["title"],
        "claims": config["claims"],
        "figure": config.get("figure", ""),
        "seeds": list(config["seeds"]),
        "tuning": {
            "seeds": list(config["tuning"]["seeds"]),
            "at": config["tuning"]["at"],
            "trials": {name: [t._asdict() for t in own] for name, own in trials.items()},
        },
        "chosen": chosen,
        "cells": points({"product": config["cells"]}),
        "runs": [
            _record(arm, cell, ended[job.name])
            for arm, own in reported.items()
            for cell, job in own
        ],
    }


def _trial(point: Point, ended: Sequence[pool.Outcome]) -> Trial:
    accuracies = tuple(o.summary["accuracy"] for o in ended if o.summary)
    return Trial(point, accuracies, tuple(o.cause for o in ended if o.cause))


def _record(arm: str, cell: Point, outcome: pool.Outcome) -> dict[str, Any]:
    return {
        "arm": arm,
        "cell": cell,
        "seed": outcome.job.config["seed"],
        "run": outcome.job.name,
        "summary": outcome.summary,
        "cause": outcome.cause,
    }


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    started, config = time.time(), json.loads(CONFIG.value.to_json())
    name = Path(command.file_of("config")).stem
    folder = Path(str(WORKDIR.value)) / name
    runner = partial(outcomes.run, workers=WORKERS.value) if RUN.value else outcomes.read
    found = run(config, partial(runner, folder=folder))
    found["how"] = {
        "command": f"python -m experiments.tables --config=configs/tables/{name}.py",
        "surroundings": surroundings(),
        "run seconds": round(sum(r["summary"].get("seconds", 0.0) for r in found["runs"])),
    }
    written = results.write(Path(str(OUT.value)) / name, found, charts.drawn(found))
    print(results.text(found))
    print(f"\n{', '.join(str(path) for path in written)}; {time.time() - started:.0f} s")


if __name__ == "__main__":
    CONFIG = config_flags.DEFINE_config_file("config", None, "The table's config file.")
    WORKDIR = flags.DEFINE_string("workdir", "runs/tables", "Where the runs go.")
    OUT = flags.DEFINE_string("out", "docs/results", "Where the table goes.")
    WORKERS = flags.DEFINE_integer("workers", 0, "Runs at a time; 0: one per core.", lower_bound=0)
    RUN = flags.DEFINE_bool("run", True, "False: write the table of what is done.")
    flags.mark_flag_as_required("config")
    command.run(main, known=(ValueError, OSError))
