"""What a run was and is, as texts that a terminal and a page share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.assembly.planned import plan_of
from experiments.reporting import runs, saved
from experiments.reporting.provenance import device
from experiments.reporting.runs import Trace
from experiments.running.workdir import Workdir
from sparsity.plan.phases import Plan

# A plan of more phases than this was written by no launch, and would take long to spell out.
_PHASES = 10_000


def trace(folder: Path) -> Trace:
    """The run in `folder`, under the name of its directory."""
    found = runs.read(folder.resolve().name, "1", 0, folder)
    if not found.config:
        return found
    return found._replace(density=str(found.config["density"]), seed=found.config["seed"])


def standing(trace: Trace) -> dict[str, str]:
    """How the run stands: its state with the cause, how far it has come, what is saved of it."""
    total, spans = runs.length(trace), runs.spans(trace)
    known = {"state": runs.state(trace)}
    if trace.records:
        phase = f", in a {spans[-1].kind} phase" if spans and not trace.summary else ""
        known["come to"] = f"step {runs.reached(trace):,} of {total:,}{phase}"
    if steps := saved.steps(Workdir(trace.folder).checkpoints):
        known["saved at"] = f"step {', '.join(f'{step:,}' for step in steps)}"
    return known


def asked(trace: Trace) -> dict[str, str]:
    """The config, a line per section."""
    config = trace.config
    if not config:
        return {}
    known = {name: _section(config[name]) for name in ("method", "plan", "data", "model")}
    known["blocks"] = _settings(config["blocks"])
    for name in ("penalty", "optimizer"):
        if isinstance(config.get(name), dict):
            known[name] = _section(config[name])
    share = f"{100 * trace.asked:.4g}% of the blocks pruned"
    known["density"] = f"{config['density']} ({share})"
    known["length"] = f"{config['steps']:,} steps of {config['batch']} examples, seed {trace.seed}"
    return known


def _section(section: Mapping[str, Any]) -> str:
    settings = _settings({key: value for key, value in section.items() if key != "name"})
    return f"{section.get('name')}" + (f" ({settings})" if settings else "")


def _settings(section: Mapping[str, Any]) -> str:
    """What is set; a block of (8, 8) is 8x8."""
    given = {key: value for key, value in section.items() if value not in (None, [], "")}
    return ", ".join(f"{key} {_value(value)}" for key, value in given.items())


def _value(value: Any) -> str:
    plain = isinstance(value, list) and all(isinstance(v, int) for v in value)
    return "x".join(map(str, value)) if plain else str(value)


def came_out(trace: Trace) -> dict[str, str]:
    """Final scores and sizes; of an unfinished run, what it has measured last."""
    found = trace.summary
    if not found:
        return _so_far(trace)
    dense, live = found["parameters"], found["parameters_live"]
    return {
        "accuracy": f"{100 * found['accuracy']:.2f}% on {runs.evaluated_on([trace])}",
        "loss": f"{found['loss']:.4g}",
        "sparsity asked": f"{100 * found['asked_sparsity']:.4g}% of the blocks",
        "sparsity achieved": f"{100 * found['achieved_sparsity']:.2f}% of the layers that are cut",
        "parameters": f"{live:,} of {dense:,} ({100 * live / max(1, dense):.1f}%)",
        "MACs": f"{found['macs_live']:,} of {found['macs']:,} "
        f"({100 * found['macs_live'] / max(1, found['macs']):.1f}%)",
        "seconds": f"{found['seconds']:,.1f}",
    }


def _so_far(trace: Trace) -> dict[str, str]:
    known = {}
    for event, where in (("eval", runs.evaluated_on([trace])), ("train", "training batches")):
        of_event = [record for record in trace.records if record["event"] == event]
        if of_event:
            last = of_event[-1]
            known[f"on {where}"] = (
                f"accuracy {100 * last['accuracy']:.2f}%, loss {last['loss']:.4g}, at step {last['step']:,}"
            )
    if curve := runs.sparsity(trace).values:
        known["sparsity in force"] = f"{100 * curve[-1]:.2f}% of the blocks"
    return known


def ran_on(trace: Trace) -> dict[str, str]:
    """Device and versions."""
    status = trace.status
    if not status.get("versions"):
        return {}
    versions = {"python": status.get("python", "?"), **status["versions"]}
    return {
        "device": f"{status.get('devices', '?')} x {device(status)}, "
        f"{status.get('cores', '?')} cores",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def layers(trace: Trace) -> list[list[str]]:
    """The table of layers under a row of names, with the blocks that the last choice of masks left.

    Of a run that has left no table, the layers that its metrics name; empty where they name none.
    """
    ticks = [r for r in trace.records if r["event"] == "tick" and r["groups"]]
    last = ticks[-1] if ticks else {"groups": {}, "step": 0}
    name = f"alive at step {last['step']:,}" if ticks else "alive"
    alive = {group: f"{own['alive']:,}" for group, own in last["groups"].items()}
    if not trace.resolved:
        found = [[group, count] for group, count in alive.items()]
        return [["path", name], *found] if found else []
    head, *rows = trace.resolved["layers"]
    return [[*head, name], *([*row, alive.get(row[0], "")] for row in rows)]


def plan(trace: Trace) -> tuple[Plan, str]:
    """The plan that the config names; () and the reason where there is none."""
    if not trace.config:
        return (), "without a config there is no plan"
    try:
        counts = [v for v in trace.config["plan"].values() if isinstance(v, int)]
        if max(counts, default=0) > _PHASES:
            return (), "the plan has too many phases to be drawn"
        return plan_of(trace.config, trace.resolved.get("steps_per_epoch", 0)), ""
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        return (), f"the plan cannot be told from the config: {error}"


def missing(trace: Trace) -> list[str]:
    """What the directory lacks of what a run in its state has, and what in it is damaged."""
    expected = [p for p in trace.problems if p != "summary.json is missing" or _ended(trace)]
    if trace.config and not runs.series(trace, "eval", "accuracy").steps:
        expected.append("nothing was evaluated yet")
    if trace.summary and not runs.masks(trace) and trace.asked:
        expected.append("the model is missing, damaged, or not of this version")
    return expected


def _ended(trace: Trace) -> bool:
    return trace.status.get("status") == "done"


def masks(trace: Trace) -> tuple[dict[str, Any], str, Sequence[str]]:
    """Masks as matrices by group; from where; and what was damaged on the way."""
    if found := runs.masks(trace):
        return found, "of the final model", ()
    kept = saved.masks(trace.folder)
    return kept.masks, f"at step {kept.step or 0:,}, the last checkpoint", kept.notes
