"""A table of methods: plans the grid, runs what is missing, and writes it down beside the paper's figures.

    python -m experiments.tables --config=configs/tables/fashion_mnist.py [--workers=2]
    python -m experiments.tables --config=... --print          # the launch commands of what is missing
    python -m experiments.tables --config=... --norun          # the pages of what is done
    python -m experiments.tables --config=... --rewrite        # the pages anew from their own JSON
    python -m experiments.tables --config=... --only="AC/DC"   # one arm, put beside the pages' others
    python -m experiments.tables --config=... --slurm="--gres=gpu:1 --time=12:00:00"

Every arm tries as many settings on a validation split cut from the training set; the best goes, with fresh
seeds, once to the test set. A table without tuning, of published settings, has one trial each. Called again
it skips what is done. What is not finished stays blank.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import command
from experiments.reporting import charts, published, table
from experiments.reporting.metrics import metrics
from experiments.reporting.places import place_of
from experiments.running.workdir import Workdir, read
from experiments.sweeps import added, call, outcomes, tuning
from experiments.sweeps.arms import Arm, arms, cells, report_jobs
from experiments.sweeps.jobs import Job
from experiments.sweeps.outcomes import Runner
from experiments.sweeps.points import Point
from experiments.sweeps.pool import Outcome
from sparsity.named import unknown

# What is said of a latency beside its milliseconds.
TIMED = ("batch", "rounds", "device", "cores")
# What a config says and its pages repeat.
KEPT = ("title", "figure", "gain", "metrics", "published", "note")


def run(config: Mapping[str, Any], runner: Runner, only: Sequence[str] = ()) -> dict[str, Any]:
    """Runs what is missing, tuning first, and returns everything that the table is written from.

    only: the arms that are run; without it all. Raises ValueError for a table that would not be fair, or that
    names what does not exist.
    """
    every, metric = arms(config), metrics(config)[0]
    _refuse(config, every)
    added.refuse_strange(only, [arm.name for arm in every])
    found = [arm for arm in every if not only or arm.name in only]
    trials = tuning.tuned(config, found, metric, runner)
    chosen = tuning.chosen(found, trials, metric)
    # An arm that is not tuned yet is planned with what its config has, and not run.
    planned = [(arm, report_jobs(config, arm, chosen.get(arm.name, {}))) for arm in found]
    ended = runner([job for arm, own in planned if arm.name in chosen for _, job in own])
    records = [
        record(arm, cell, job, ended.get(job.name) if arm.name in chosen else None)
        for arm, own in planned
        for cell, job in own
    ]
    return {
        **{key: config[key] for key in KEPT if key in config},
        "claims": config.get("claims", []),
        "seeds": list(config["seeds"]),
        "tuning": _tuning(config, trials),
        "chosen": chosen,
        "cells": cells(config),
        "runs": records,
        "surroundings": outcomes.surroundings(ended.values()),
    }


def _refuse(config: Mapping[str, Any], found: Sequence[Arm]) -> None:
    """What can be known to be wrong before anything runs."""
    if shared := set(config["seeds"]) & set(config.get("tuning", {}).get("seeds", ())):
        raise ValueError(f"the seeds {sorted(shared)} would tune and report; take fresh ones")
    names = [arm.name for arm in found]
    places = ["", *(place_of(cell) for cell in cells(config))]
    published.refuse_strange(published.figures(config), names, places)
    _refuse_claims(config, names)


def _refuse_claims(config: Mapping[str, Any], names: Sequence[str]) -> None:
    """ValueError for a claim about an arm, or a picture of a claim, that the table lacks."""
    claims = config.get("claims", [])
    for claim in claims:
        for side in ("better", "worse"):
            if claim[side] not in names:
                raise unknown(f"arm (in the claim {claim['claim']!r})", claim[side], names)
    said = [claim["claim"] for claim in claims]
    for picture in ("figure", "gain"):
        if config.get(picture) and config[picture] not in said:
            raise unknown(f"claim (of the {picture})", config[picture], said)


def _tuning(config: Mapping[str, Any], trials: Mapping[str, Sequence[tuning.Trial]]) -> dict:
    section = config.get("tuning", {})
    tried = {name: [t._asdict() for t in own] for name, own in trials.items()}
    return {
        "seeds": list(section.get("seeds", ())),
        "at": section.get("at", {}),
        "trials": tried,
    }


def record(arm: Arm, cell: Point, job: Job, outcome: Outcome | None) -> dict[str, Any]:
    """What a table keeps of a run; None is a run that is not to be asked for yet."""
    timed = _timed(Workdir(outcome.folder).latency) if outcome else {}
    return {
        "arm": arm.name,
        "cell": cell,
        "seed": job.config["seed"],
        "run": job.name if outcome else "",
        "devices": job.config["devices"],
        "summary": outcome.summary if outcome else {},
        "cause": outcome.cause if outcome else "",
        "latency": timed.get("milliseconds", {}),
        "timed": {key: timed[key] for key in TIMED if key in timed},
    }


def _timed(latency: Path) -> dict[str, Any]:
    """What `experiments.latency` has measured of a run; {} where it has not."""
    return read(latency) if latency.exists() else {}


def _say_untuned(found: Mapping[str, Any]) -> None:
    """A line for whoever runs the printed commands: more of them follow."""
    left = len({run["arm"] for run in found["runs"]} - set(found["chosen"]))
    if left:
        print(f"# {left} arms are being tuned: their runs on the test set follow at the next call")


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    started, here = time.time(), call.called(FLAGS, "tables")
    if REWRITE.value:
        found = kept(here.config, here.stem)
    else:
        found = run(here.config, here.runner, ONLY.value)
        if not here.pages:
            _say_untuned(found)
            return
        found = _whole(found, here)
    written = table.write(here.stem, found, charts.drawn(found))
    print(table.text(found))
    print(f"\n{', '.join(str(path) for path in written)}; {time.time() - started:.0f} s")


def kept(config: Mapping[str, Any], stem: Path) -> dict[str, Any]:
    """What an earlier call wrote into stem.json, with the words of today's config.

    Runs are named by the fields of their configs, so that those of an earlier version are not found by a later.
    """
    found = read(stem.with_suffix(".json"))
    return {**found, **{key: config[key] for key in (*KEPT, "claims") if key in config}}


def _whole(found: dict[str, Any], here: call.Call) -> dict[str, Any]:
    """What the pages are written from: what has been run, or with it what an earlier call has written."""
    if ONLY.value:
        earlier = kept(here.config, here.stem)
        found = added.added(earlier, found, [arm.name for arm in arms(here.config)])
        return {**found, "how": {**found["how"], "run seconds": _seconds(found)}}
    return {**found, "how": _how(found, here.command)}


def _how(found: dict[str, Any], asked: str) -> dict[str, Any]:
    return {
        "command": asked,
        "surroundings": found.pop("surroundings"),
        "run seconds": _seconds(found),
    }


def _seconds(found: Mapping[str, Any]) -> int:
    return round(sum(r["summary"].get("seconds", 0.0) for r in found["runs"]))


if __name__ == "__main__":
    FLAGS = call.define("runs/tables")
    REWRITE = flags.DEFINE_bool("rewrite", False, "Write the pages anew from their JSON.")
    ONLY = flags.DEFINE_multi_string(
        "only",
        [],
        "An arm that is run now, and put beside the others of the pages' JSON; may be repeated.",
    )
    command.run(main, known=(ValueError, OSError))
