"""The trials of a search as jobs: asked of the study as slots fall free, and told how they ended."""

import os
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from experiments.reporting.metrics import Metric
from experiments.sweeps.jobs import Job, job
from experiments.sweeps.pool import Outcome
from experiments.sweeps.study import Search, suggested

PRUNED = "pruned by the search"
# What a trial notes beside its parameters, in the study.
RUN, POINT, PROCESS, CAUSE = "run", "point", "process", "cause"


class Trials:
    """The trials that this process has under way."""

    def __init__(
        self, study: optuna.Study, config: Mapping[str, Any], search: Search, metric: Metric
    ) -> None:
        self._study, self._config, self._search, self._metric = study, config, search, metric
        self._under_way: dict[str, Trial] = {}

    def jobs(self) -> Iterator[Job]:
        """Those that an earlier process left unfinished, then new ones, until there are as many as asked."""
        for left in abandoned(self._study):
            trial = Trial(self._study, left._trial_id)
            if POINT in left.user_attrs:
                yield from self._begun(trial, left.user_attrs[POINT])
            else:
                self._study.tell(trial, state=TrialState.FAIL)
        while len(self._study.get_trials(deepcopy=False)) < self._search.trials:
            trial = self._study.ask()
            yield from self._begun(trial, suggested(trial, self._search.space))

    def _begun(self, trial: Trial, point: dict[str, Any]) -> Iterator[Job]:
        try:
            made = at(self._config, point)
            if other := self._under_way.get(made.name):
                raise ValueError(
                    f"the same run as that of trial {other.number}, which is under way"
                )
        except ValueError as error:
            trial.set_user_attr(CAUSE, str(error))
            self._study.tell(trial, state=TrialState.FAIL)
            return
        # The process first: a trial that notes none would be taken to go on for ever.
        for key, value in {PROCESS: this_process(), RUN: made.name, POINT: point}.items():
            trial.set_user_attr(key, value)
        self._under_way[made.name] = trial
        yield made

    def ended(self, outcome: Outcome) -> None:
        """Tells the study. A run that diverged counts as pruned, so that the sampler keeps away from there."""
        trial = self._under_way.pop(outcome.job.name)
        if outcome.summary:
            self._study.tell(trial, float(outcome.summary[self._metric.field]))
            return
        trial.set_user_attr(CAUSE, outcome.cause)
        worse = PRUNED in outcome.cause or outcome.cause.startswith("Diverged")
        self._study.tell(trial, state=TrialState.PRUNED if worse else TrialState.FAIL)


def at(config: Mapping[str, Any], point: Mapping[str, Any]) -> Job:
    """The run of a search's config at a point; raises ValueError as `jobs` does."""
    made = job(config["base"], {**config["set"], **point})
    return made._replace(point=dict(point))


def abandoned(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that are said to run and whose process, on this machine, is gone."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in running if _gone(trial.user_attrs.get(PROCESS))]


def this_process() -> str:
    """Machine and number."""
    return f"{platform.node()} {os.getpid()}"


def _gone(process: str | None) -> bool:
    """Whether it was on this machine and has ended; one of another machine is taken to go on."""
    if process is None:
        return False
    node, _, number = process.rpartition(" ")
    if node != platform.node() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
