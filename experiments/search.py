"""An adaptive search over any fields: Optuna asks for runs, and ends those that fall behind.

    python -m experiments.search --config=configs/searches/fashion_mnist.py [--workers=2]
    python -m experiments.search --config=... --storage=postgresql://user@host/studies

The study lies in a file beside the runs, or in a database that several machines share: the same command on
each of them works on the one search. Called again, a search goes on: what was cut off is taken up where it
stands. `optuna-dashboard sqlite:///runs/searches/NAME/study.db` shows it live.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from absl import flags
from optuna.trial import FrozenTrial

from experiments import command
from experiments.reporting import search as reporting
from experiments.reporting.metrics import metrics
from experiments.sweeps import call, outcomes, pool
from experiments.sweeps.live import Live
from experiments.sweeps.points import said
from experiments.sweeps.slots import Wish, slots
from experiments.sweeps.study import Search, opened, search
from experiments.sweeps.trials import CAUSE, POINT, RUN, Trials, at
from experiments.sweeps.watched import Watch, evaluations


def run(
    config: Mapping[str, Any], folder: Path, storage: str = "", wish: Wish | None = None
) -> list[reporting.Row]:
    """Runs trials until there are as many as asked, and returns all of the study.

    wish: how they are packed on this machine; None reads what there is. Raises ValueError for a search
    that cannot run and for a study of another.
    """
    found, metric = search(config), metrics(config)[0]
    first = at(config, {field: drawn.values[0] for field, drawn in found.space.items()})
    folder.mkdir(parents=True, exist_ok=True)
    storage = storage or f"sqlite:///{folder.resolve()}/study.db"
    study = opened(config, folder.name, storage, evaluations(first.config))
    if wish:
        watch = Watch(storage, folder.name, found.pruner, metric)
        trials = Trials(study, config, found, metric)
        places = slots(wish._replace(devices=first.config["devices"]))[: found.trials]
        with Live(folder, _left(study, found)) as live:

            def ended(outcome: pool.Outcome) -> None:
                trials.ended(outcome)
                live.ended(outcome)

            pool.run(trials.jobs(), folder, places, pool.Hooks(live.begun, ended, watch.run))
    return [_row(trial) for trial in study.get_trials(deepcopy=False)]


def _left(study: optuna.Study, found: Search) -> int:
    """Trials that are still to end."""
    return found.trials - sum(trial.state.is_finished() for trial in study.trials)


def _row(trial: FrozenTrial) -> reporting.Row:
    words = {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
    noted = trial.user_attrs
    value = math.nan if trial.value is None else trial.value
    return reporting.Row(
        trial.number,
        words,
        value,
        said(noted.get(POINT, {})),
        noted.get(RUN, ""),
        noted.get(CAUSE, ""),
    )


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    here = call.called(FLAGS, "search")
    config, metric = here.config, metrics(here.config)[0]
    if FLAGS.print.value or FLAGS.slurm.value is not None:
        raise ValueError(
            "a search decides its next run by those before; for many machines start it on each with one "
            "--storage"
        )
    wish = call.wish(FLAGS) if FLAGS.run.value else None
    rows = run(config, here.folder, STORAGE.value, wish)
    print(reporting.text(rows, metric))
    ended = outcomes.named([row.run for row in rows if row.state == "complete"], here.folder)
    found = search(config)
    how = {
        "command": here.command,
        "surroundings": outcomes.surroundings(ended),
        "sampler": found.sampler,
        "pruner": found.pruner,
    }
    written = reporting.write(here.stem, config["title"], rows, metric, how)
    print(f"\n{', '.join(str(path) for path in written)}")


if __name__ == "__main__":
    FLAGS = call.define("runs/searches")
    STORAGE = flags.DEFINE_string("storage", "", "The study's database; '' for a file by the runs.")
    command.run(main, known=(ValueError, OSError, ImportError))
