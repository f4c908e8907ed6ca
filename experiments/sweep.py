"""A family of runs side by side: runs what is missing, and writes accuracies and how the masks moved.

    python -m experiments.sweep --config=configs/sweeps/attention.py [--workers=2]
    python -m experiments.sweep --config=configs/sweeps/attention.py --sweep=clip --sweep="no cycles"
    python -m experiments.sweep --config=... --print           # the launch commands of what is missing
    python -m experiments.sweep --config=... --slurm="--gres=gpu:1 --time=1:00:00"

Called again it skips what is done. The runs are scored on a validation split cut from the training set,
so that what is chosen here can still be reported on the test set.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from experiments import command
from experiments.reporting import families
from experiments.sweeps import call, outcomes
from experiments.sweeps.jobs import jobs
from experiments.sweeps.outcomes import Runner
from experiments.sweeps.points import Named, family, picked
from experiments.sweeps.pool import Outcome


def run(config: Mapping[str, Any], runner: Runner) -> tuple[list[families.Row], dict[str, Any]]:
    """One row per point, of its runs over the seeds, and what they ran on.

    Raises ValueError as `family` and `jobs` do.
    """
    found, seeds = family(config["sweep"]), config["seeds"]
    every = jobs(
        config["base"],
        [{**config["set"], **named.point, "seed": s} for named in found for s in seeds],
    )
    ended = runner(every)
    rows = []
    for i, named in enumerate(found):
        own = [ended[job.name] for job in every[i * len(seeds) : (i + 1) * len(seeds)]]
        rows.append(_row(named, own))
    return rows, outcomes.surroundings(ended.values())


def _row(named: Named, ended: Sequence[Outcome]) -> families.Row:
    done = [o for o in ended if o.summary]
    accuracies = {o.job.config["seed"]: 100 * o.summary["accuracy"] for o in done}
    causes = tuple(o.cause for o in ended if o.cause)
    moves = tuple(families.moves(o.folder / "metrics.jsonl") for o in done)
    return families.Row(named.name, named.point, accuracies, causes, moves)


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    here = call.called(FLAGS, "sweep")
    config = here.config
    if SWEEP.value:
        config["sweep"] = picked(config["sweep"], SWEEP.value)
    rows, surroundings = run(config, here.runner)
    if not here.pages:
        return
    print(families.text(rows))
    # Pages are of the whole sweep: a part of it is shown, and not written over them.
    if not SWEEP.value:
        said = {"command": here.command, "surroundings": surroundings}
        how = {**said, "set": config["set"], "seeds": config["seeds"]}
        written = families.write(here.stem, config["title"], rows, how)
        print(f"\n{', '.join(str(path) for path in written)}")


if __name__ == "__main__":
    FLAGS = call.define("runs/sweeps")
    SWEEP = flags.DEFINE_multi_string("sweep", [], "Only this of the sweep's named parts.")
    command.run(main, known=(ValueError, OSError))
