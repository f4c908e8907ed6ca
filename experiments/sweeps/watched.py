"""A trial of a search as its worker runs it: each evaluation goes to the study, which may end the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import Trial, TrialState

from experiments.reporting.metrics import Metric
from experiments.running.preemption import Stop
from experiments.sweeps import launched
from experiments.sweeps.study import PRUNERS
from experiments.sweeps.trials import PRUNED, RUN


class Watch(NamedTuple):
    """Where the study lies, and what its trials are judged by."""

    storage: str
    name: str
    pruner: str
    metric: Metric

    def run(self, config: dict[str, Any], folder: Path) -> tuple[dict[str, Any], str]:
        """Runs the trial whose run the folder is named by; as `launched.run` returns.

        A run that is pruned saves where it stands, and would go on from there if it were launched again.
        """
        from experiments.running.launch import Session

        trial, stop = self._trial(config, folder.name), Stop()
        every = config["evaluate_every"]

        def heard(record: Mapping[str, Any]) -> None:
            if trial and record["event"] == "eval" and record["step"] < config["steps"]:
                trial.report(float(record[self.metric.field]), record["step"] // every)
                if trial.should_prune():
                    stop.reason = f"{PRUNED} at step {record['step']}"

        return launched.within(config, folder, Session(lambda text: None, stop=stop, heard=heard))

    def _trial(self, config: Mapping[str, Any], run: str) -> Trial | None:
        """The trial under way with this run; None where nothing prunes."""
        every = config["evaluate_every"]
        if self.pruner == "none" or not every:
            return None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        pruner = PRUNERS[self.pruner](evaluations(config))
        study = optuna.load_study(study_name=self.name, storage=self.storage, pruner=pruner)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        found = [t for t in running if t.user_attrs.get(RUN) == run]
        return Trial(study, found[-1]._trial_id) if found else None


def evaluations(config: Mapping[str, Any]) -> int:
    """Of a whole run, that at its end included; 1 where it is evaluated at its end alone."""
    every = config["evaluate_every"]
    return -(-config["steps"] // every) if every else 1
