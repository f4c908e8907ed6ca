"""Equal tuning: every arm tries as many settings on a validation split, and the best mean is chosen."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.reporting.metrics import Metric
from experiments.sweeps.arms import Arm, tuning_jobs
from experiments.sweeps.jobs import Job
from experiments.sweeps.outcomes import Runner
from experiments.sweeps.points import Point, points
from experiments.sweeps.pool import Outcome


class Trial(NamedTuple):
    """A setting that was tried: its values on the validation split, one per seed that ended.

    left: runs that have not ended.
    """

    point: Point
    values: tuple[float, ...]
    causes: tuple[str, ...]
    left: int

    def mean(self, metric: Metric) -> float:
        """Of the values, higher is better; a setting of which a run failed comes last."""
        failed = self.causes or not self.values
        return -math.inf if failed else metric.sign * sum(self.values) / len(self.values)


def tuned(
    config: Mapping[str, Any], arms: Sequence[Arm], metric: Metric, runner: Runner
) -> dict[str, list[Trial]]:
    """Per arm that has a choice its trials, after those that are missing were run."""
    asked = {arm.name: tuning_jobs(config, arm) for arm in arms}
    ended = runner([job for own in asked.values() for _, jobs in own for job in jobs])
    return {
        name: [_trial(point, jobs, ended, metric) for point, jobs in own]
        for name, own in asked.items()
        if own
    }


def _trial(
    point: Point, jobs: Sequence[Job], ended: Mapping[str, Outcome], metric: Metric
) -> Trial:
    found = [ended[job.name] for job in jobs]
    values = tuple(o.summary[metric.field] for o in found if o.summary)
    causes = tuple(o.cause for o in found if o.cause)
    return Trial(point, values, causes, len(found) - len(values) - len(causes))


def chosen(
    arms: Sequence[Arm], trials: Mapping[str, Sequence[Trial]], metric: Metric
) -> dict[str, Point]:
    """By name the best trial of each arm; an arm whose trials have not all ended has none yet."""
    best = {arm.name: _best(arm, trials.get(arm.name, ()), metric) for arm in arms if not arm.like}
    taken = {arm.name: best[arm.like or arm.name] for arm in arms}
    return {name: point for name, point in taken.items() if point is not None}


def _best(arm: Arm, trials: Sequence[Trial], metric: Metric) -> Point | None:
    if not trials:
        return points(arm.trials)[0]
    if any(trial.left for trial in trials):
        return None
    return max(trials, key=lambda trial: trial.mean(metric)).point
