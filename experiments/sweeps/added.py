"""Arms that were run later, put beside what an earlier call has written of the others.

Runs are named by every field of their configs, so that a version with a field more finds none of an earlier one's.
An arm that a table lacked need not cost all the others once more, where nothing that bears on numbers has changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.surroundings import moved
from sparsity.named import unknown

# What two calls must have in common, beside the ground that their numbers stand on.
SHARED = ("cells", "seeds", "metrics")

Found = Mapping[str, Any]


def added(earlier: Found, fresh: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The earlier call's table with these arms as the fresh call has run them, all in the order of `names`.

    Raises ValueError where the two differ in anything but their arms.
    """
    _refuse_other(earlier, fresh)
    arms = [*dict.fromkeys(run["arm"] for run in fresh["runs"])]
    runs = [*(r for r in earlier["runs"] if r["arm"] not in arms), *fresh["runs"]]
    trials = {**earlier["tuning"]["trials"], **fresh["tuning"]["trials"]}
    later = dict.fromkeys([*earlier["how"].get("later", ()), *arms])
    return {
        **{key: fresh[key] for key in fresh if key != "surroundings"},
        "runs": sorted(runs, key=lambda run: names.index(run["arm"])),
        "chosen": _ordered({**earlier["chosen"], **fresh["chosen"]}, names),
        "tuning": {**fresh["tuning"], "trials": _ordered(trials, names)},
        "how": {**earlier["how"], "later": list(later)},
    }


def refuse_strange(only: Sequence[str], names: Sequence[str]) -> None:
    """ValueError for an arm that the table lacks."""
    for name in only:
        if name not in names:
            raise unknown("arm", name, names)


def _ordered(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _refuse_other(earlier: Found, fresh: Found) -> None:
    before, now = _compared(earlier), _compared(fresh)
    differing = [
        f"{name} {before[name]} then and {now[name]} now"
        for name in now
        if before[name] != now[name]
    ]
    if fresh["surroundings"]:  # some of the runs are done
        ground = moved(earlier["how"]["surroundings"], fresh["surroundings"])
        differing += [ground] * bool(ground)
    if differing:
        raise ValueError(
            f"arms that are run now do not belong beside those of an earlier call: {', '.join(differing)}; run "
            "the whole table"
        )


def _compared(found: Found) -> dict[str, Any]:
    tuning = {f"tuning's {key}": found["tuning"].get(key) for key in ("seeds", "at")}
    return {**{key: found.get(key) for key in SHARED}, **tuning}
