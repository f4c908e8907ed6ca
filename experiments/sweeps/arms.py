"""The arms of a table: what each is, what it tries in its tuning, and which runs its row is made of."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.sweeps.jobs import Job, job
from experiments.sweeps.points import Point, points
from sparsity.named import unknown


class Arm(NamedTuple):
    """A row of the table.

    name:     as printed. argument: of the config file. set: fields that are the arm's own.
    trials:   what its tuning tries, a sweep. like: the arm whose chosen trial it takes instead.
    """

    name: str
    argument: str
    set: Mapping[str, Any] = {}
    trials: Mapping[str, Any] = {}
    like: str = ""

    @property
    def dense(self) -> bool:
        """Whether it is the network without sparsity, which has one cell."""
        return self.argument.startswith("dense")


def arms(config: Mapping[str, Any]) -> list[Arm]:
    """The arms of a table's config.

    Raises ValueError for names that don't exist or come twice, for unequal tuning, and for arms that have
    something to try in a table that is not tuned.
    """
    found = [Arm(**_known(section)) for section in config["arms"]]
    names = [arm.name for arm in found]
    for arm in found:
        if arm.like and arm.like not in names:
            raise unknown("arm", arm.like, names)
        if names.count(arm.name) > 1:
            raise ValueError(f"two arms are called {arm.name!r}")
    _refuse_unequal(found, "tuning" in config)
    return found


def _known(section: Mapping[str, Any]) -> dict[str, Any]:
    if strange := [field for field in section if field not in Arm._fields]:
        raise unknown("field of an arm", strange[0], Arm._fields)
    return dict(section)


def _refuse_unequal(found: Sequence[Arm], tuned: bool) -> None:
    sizes = {arm.name: len(points(arm.trials)) for arm in found if not arm.like}
    listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
    if len(set(sizes.values())) > 1:
        raise ValueError(f"every arm gets as many trials, and these differ: {listed}")
    if not tuned and max(sizes.values(), default=1) > 1:
        raise ValueError(f"the table has no section tuning, and its arms have trials: {listed}")


def tuning_jobs(config: Mapping[str, Any], arm: Arm) -> list[tuple[Point, list[Job]]]:
    """Per trial its runs on the validation split, one per seed; none where there is no choice."""
    trials = points(arm.trials)
    if arm.like or len(trials) == 1:
        return []
    place = {**config["tuning"]["at"], "data.validation": config["tuning"]["validation"]}
    seeds = config["tuning"]["seeds"]
    return [(t, [_job(config, arm, {**place, **t}, seed) for seed in seeds]) for t in trials]


def report_jobs(config: Mapping[str, Any], arm: Arm, chosen: Point) -> list[tuple[Point, Job]]:
    """(cell, run) of an arm's row, on the test set with seeds that tuned nothing."""
    return [
        (cell, _job(config, arm, {**cell, **chosen}, seed))
        for cell in cells(config, arm)
        for seed in config["seeds"]
    ]


def cells(config: Mapping[str, Any], arm: Arm | None = None) -> list[Point]:
    """The cells of a table, or of an arm's row: that of a dense arm has one, which sets nothing."""
    return [{}] if arm and arm.dense else points({"product": config["cells"]})


def _job(config: Mapping[str, Any], arm: Arm, point: Point, seed: int) -> Job:
    dense = {"density": "1"} if arm.dense else {}
    whole = {"argument": arm.argument, **config["set"], **point, **arm.set, **dense, "seed": seed}
    return job(config["base"], whole)
