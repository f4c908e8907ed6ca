"""An Optuna study of a search's config: its sampler, its pruner, where it lies, and whose it is."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from experiments.reporting.metrics import Metric, metrics
from experiments.running.identity import differences
from experiments.sweeps.draws import Draw, draw
from sparsity.named import choose, unknown

try:
    import optuna
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise ImportError("a search needs Optuna: pip install 'sparsity[search]'") from error

SAMPLERS: Mapping[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    # The seed makes a search by one process at a time repeatable.
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "qmc": lambda seed: optuna.samplers.QMCSampler(seed=seed),
}
PRUNERS: Mapping[str, Callable[[int], optuna.pruners.BasePruner]] = {
    # Both count evaluations, the first of which is 1; the median says nothing of that one.
    "hyperband": lambda last: optuna.pruners.HyperbandPruner(1, max(2, last)),
    "median": lambda last: optuna.pruners.MedianPruner(n_warmup_steps=2),
    "none": lambda last: optuna.pruners.NopPruner(),
}
ASKED = "asked"


class Search(NamedTuple):
    """What is searched.

    space: a draw per field. trials: how many, those before included. sampler, pruner: names in SAMPLERS
    and PRUNERS. seed: of the sampler.
    """

    space: Mapping[str, Draw]
    trials: int
    sampler: str = "tpe"
    pruner: str = "hyperband"
    seed: int = 0


def search(config: Mapping[str, Any]) -> Search:
    """That of a search's config.

    Raises ValueError for a field, a draw, a sampler or a pruner that does not exist, and for runs that
    would be judged on the test set, or pruned without an evaluation.
    """
    section = config["search"]
    for field in section:
        if field not in Search._fields:
            raise unknown("field of a search", field, Search._fields)
    space = {field: draw(field, rule) for field, rule in section.get("space", {}).items()}
    settings: dict[str, Any] = {"trials": 0, **section, "space": space}
    found = Search(**settings)
    choose("sampler", found.sampler, SAMPLERS)
    choose("pruner", found.pruner, PRUNERS)
    if not space or type(found.trials) is not int or found.trials < 1:
        raise ValueError(
            "a search has a space, a mapping of draws, and trials, a count of 1 or more"
        )
    _refuse_blind(config["set"], found)
    return found


def _refuse_blind(fields: Mapping[str, Any], found: Search) -> None:
    if not fields.get("data.validation"):
        raise ValueError(
            "a search is judged on a validation split, so that the test set stays unseen: set data.validation"
        )
    if found.pruner != "none" and not fields.get("evaluate_every"):
        raise ValueError(
            f"the pruner {found.pruner!r} judges evaluations: set evaluate_every, or take 'none'"
        )


def opened(config: Mapping[str, Any], name: str, storage: str, evaluations: int) -> optuna.Study:
    """The study of a config in a storage, made if it is not there. evaluations: of a whole run.

    Raises ValueError where the storage holds another search's study under this name, and where it is no
    database that can be opened.
    """
    found, metric = search(config), metrics(config)[0]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize" if metric.sign > 0 else "minimize",
            pruner=PRUNERS[found.pruner](evaluations),
            load_if_exists=True,
        )
    except (SQLAlchemyError, OptunaError, ImportError) as error:
        # Not the storage itself: its address may hold a password.
        problem = str(error).splitlines()[0]
        raise ValueError(f"the study's storage cannot be opened: {problem}") from None
    _refuse_other(study, config, metric)
    # Not the same draws again in a search that goes on.
    study.sampler = SAMPLERS[found.sampler](found.seed + len(study.trials))
    return study


def _refuse_other(study: optuna.Study, config: Mapping[str, Any], metric: Metric) -> None:
    """More trials, another sampler or pruner go on in the same study; other runs or another space do not."""
    asked = {
        "base": config["base"],
        "set": dict(config["set"]),
        "space": config["search"]["space"],
        "metric": {"field": metric.field, "better": metric.better},
    }
    asked = json.loads(json.dumps(asked))
    there = study.user_attrs.get(ASKED)
    if there is None and not study.trials:
        study.set_user_attr(ASKED, asked)
        return
    if lines := differences(there or {}, asked):
        listed = "\n  ".join(lines)
        raise ValueError(
            f"the study {study.study_name!r} is of another search; take another --storage or another name of "
            f"the config's file:\n  {listed}"
        )


def suggested(trial: optuna.Trial, space: Mapping[str, Draw]) -> dict[str, Any]:
    """The point that the sampler takes next."""
    return {field: _suggested(trial, field, drawn) for field, drawn in space.items()}


def _suggested(trial: optuna.Trial, field: str, drawn: Draw) -> Any:
    if drawn.kind == "choice":
        # Optuna's choices are plain values; ours may be lists, and are chosen by their place.
        labels = [json.dumps(value) for value in drawn.values]
        return json.loads(trial.suggest_categorical(field, labels))
    low, high = drawn.values
    if drawn.kind == "integers":
        return trial.suggest_int(field, low, high)
    return trial.suggest_float(field, low, high, log=drawn.kind == "log_uniform")
