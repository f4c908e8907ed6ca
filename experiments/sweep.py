"""A family of runs side by side: runs what is missing, and writes its metrics and how the masks moved.

    python -m experiments.sweep --config=configs/sweeps/attention.py [--workers=2]
    python -m experiments.sweep --config=configs/sweeps/attention.py --sweep=clip --sweep="no cycles"
    python -m experiments.sweep --config=... --print           # the launch commands of what is missing
    python -m experiments.sweep --config=... --slurm="--gres=gpu:1 --time=1:00:00"

Called again it skips what is done. The runs are scored on a validation split cut from the training set,
so that what is chosen here can still be reported on the test set. Reported are the config's `metrics`, as of
a table; where it names none, those that the set is judged by.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from experiments import command
from experiments.reporting import families
from experiments.reporting.metrics import Metric, metrics, of_set
from experiments.sweeps import call, outcomes
from experiments.sweeps.jobs import Job, jobs
from experiments.sweeps.outcomes import Runner
from experiments.sweeps.points import Named, family, picked
from experiments.sweeps.pool import Outcome


class Found(NamedTuple):
    """One row per point, the metrics they hold, and what the runs ran on."""

    rows: list[families.Row]
    judged: tuple[Metric, ...]
    surroundings: dict[str, Any]


def run(config: Mapping[str, Any], runner: Runner) -> Found:
    """Runs what is missing of every point over the seeds.

    Raises ValueError as `family`, `jobs` and `metrics` do.
    """
    found, seeds = family(config["sweep"]), config["seeds"]
    every = jobs(
        config["base"],
        [{**config["set"], **named.point, "seed": s} for named in found for s in seeds],
    )
    judged = _judged(config, every)
    ended = runner(every)
    rows = []
    for i, named in enumerate(found):
        own = [ended[job.name] for job in every[i * len(seeds) : (i + 1) * len(seeds)]]
        rows.append(_row(named, own, judged))
    return Found(rows, judged, outcomes.surroundings(ended.values()))


def _judged(config: Mapping[str, Any], every: Sequence[Job]) -> tuple[Metric, ...]:
    if config.get("metrics"):
        return metrics(config)
    sets = dict.fromkeys(job.config["data"]["name"] for job in every)
    return tuple(dict.fromkeys(metric for name in sets for metric in of_set(name)))


def _row(named: Named, ended: Sequence[Outcome], judged: Sequence[Metric]) -> families.Row:
    done = [o for o in ended if o.summary]
    values = {
        metric.field: {
            o.job.config["seed"]: metric.scale * o.summary[metric.field]
            for o in done
            if metric.field in o.summary
        }
        for metric in judged
    }
    causes = tuple(o.cause for o in ended if o.cause)
    moves = tuple(families.moves(o.folder / "metrics.jsonl") for o in done)
    return families.Row(named.name, named.point, values, causes, moves)


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    here = call.called(FLAGS, "sweep")
    config = here.config
    if SWEEP.value:
        config["sweep"] = picked(config["sweep"], SWEEP.value)
    found = run(config, here.runner)
    if not here.pages:
        return
    print(families.text(found.rows, found.judged))
    # Pages are of the whole sweep: a part of it is shown, and not written over them.
    if not SWEEP.value:
        said = {"command": here.command, "surroundings": found.surroundings}
        how = {**said, "set": config["set"], "seeds": config["seeds"]}
        written = families.write(here.stem, config["title"], found.rows, how, found.judged)
        print(f"\n{', '.join(str(path) for path in written)}")


if __name__ == "__main__":
    FLAGS = call.define("runs/sweeps")
    SWEEP = flags.DEFINE_multi_string("sweep", [], "Only this of the sweep's named parts.")
    command.run(main, known=(ValueError, OSError))
