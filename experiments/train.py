"""Launches one experiment, or resumes it.

    python -m experiments.train --config=configs/digits.py:magnitude --workdir=runs/digits
    python -m experiments.train --config=... --workdir=... --config.density=0.05 --config.seed=1

The directory holds the resolved config, a status, the metrics as JSON lines, checkpoints, and at the end
a summary and the plain sparse model. Launched again, a finished run does nothing and an unfinished one
goes on from its last checkpoint.
"""

import importlib.metadata
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

import sparsity
from experiments.assemble import Experiment, assemble, feed
from sparsity.contract import Context
from sparsity.data.order import eval_batches
from sparsity.data.resident import Resident, batch
from sparsity.surgery import export
from sparsity.target import final_context
from sparsity.train import checkpoint
from sparsity.train.log import Lines
from sparsity.train.loop import Diverged, Every, Run, fit
from sparsity.train.state import TrainState, trained
from sparsity.units import costs
from sparsity.units.blocks import exact, table
from sparsity.units.partition import Partition, leaves

Report = Callable[[str], None]
EVALUATED = 512  # images per step of an evaluation


def launch(config: Mapping[str, Any], workdir: Path, say: Report = print) -> dict[str, Any]:
    """Runs a config (plain nested data) in a directory, to its end, and returns the run's summary.

    Raises ValueError before step 0 for a config that cannot run, and for a directory that belongs to
    another config; Diverged, recorded in the directory's status, where the numbers stop being finite.
    """
    config = _plain(config)
    if (workdir / "summary.json").exists():
        _same_config(config, workdir)
        say(f"{workdir}: done before, nothing to do")
        return _read(workdir / "summary.json")
    experiment = assemble(config)
    workdir.mkdir(parents=True, exist_ok=True)
    _same_config(config, workdir)
    _write(workdir / "config.json", config)
    say(table(experiment.layers))
    started = time.time()
    _status(workdir, "running")
    try:
        summary = _run(experiment, workdir, say)
    except Diverged as error:
        _status(workdir, "diverged", cause=str(error))
        raise
    except Exception as error:
        _status(workdir, "failed", cause=f"{type(error).__name__}: {error}")
        raise
    except KeyboardInterrupt:
        _status(workdir, "preempted", cause="interrupted")
        raise
    summary["seconds"] = round(time.time() - started, 2)
    _write(workdir / "summary.json", summary)
    _status(workdir, "done")
    return summary


def _run(experiment: Experiment, workdir: Path, say: Report) -> dict[str, Any]:
    config, made = experiment.config, experiment.shared.programs
    key = jax.random.key(config["seed"])
    state = made.create(key, experiment.inputs)
    kept, size = workdir / "checkpoints", 0
    if checkpoint.latest(kept) is not None:
        state, extra, notes = checkpoint.restore(kept, state)
        size = extra["metrics"]
        for note in notes:
            say(note)
        say(f"{workdir}: going on from step {int(state.step)}")
    lines = Lines(workdir / "metrics.jsonl", size)

    def save(state: TrainState) -> None:
        _refuse_nonfinite(state)
        checkpoint.save(kept, int(state.step), state, {"metrics": lines.size()})

    every = Every(config["log_every"], config["evaluate_every"], config["save_every"])
    scores = evaluation(experiment)
    run = Run(
        programs=made,
        plan=experiment.plan,
        target=experiment.target,
        source=feed(experiment),
        evaluate=scores,
        emit=lines.write,
        save=save,
        every=every,
        settle=config["settle"],
    )
    state = fit(run, state)
    lines.close()
    context = final_context(experiment.target, experiment.plan)
    summary = _summary(experiment, state, context, scores(state, context))
    _export(experiment, workdir, state, context, summary)
    return summary


def evaluation(experiment: Experiment) -> Callable[[TrainState, Context], dict[str, Any]]:
    """(state, context) -> loss and accuracy over the whole evaluation set, each image once."""
    held = experiment.sets.resident_test
    cuts = jax.device_put(eval_batches(len(experiment.sets.test.labels), EVALUATED))
    places = jax.device_put(list(np.arange(len(cuts[0]), dtype=np.int32)))

    def scores(state: TrainState, context: Context) -> dict[str, Any]:
        parts = [
            experiment.shared.programs.evaluate(state, context, _cut(held, cuts, i)) for i in places
        ]
        found = jax.device_get(parts)
        sums = {name: sum(float(part[name]) for part in found) for name in found[0]}
        if not math.isfinite(sums["loss"]):
            raise Diverged(f"the evaluated loss is {sums['loss']} at step {int(state.step)}")
        return {
            "loss": sums["loss"] / sums["examples"],
            "accuracy": sums["correct"] / sums["examples"],
        }

    return scores


@jax.jit
def _cut(held: Resident, cuts: tuple[jax.Array, jax.Array], i: jax.Array) -> dict[str, jax.Array]:
    """The i-th batch of the evaluation, with the weight of each image."""
    indices, weights = cuts
    return {**batch(held, indices[i]), "weight": weights[i]}


def _summary(
    experiment: Experiment, state: TrainState, context: Context, scores: Mapping[str, Any]
) -> dict[str, Any]:
    config, uses = experiment.config, experiment.shared.uses
    masks = jax.device_get(experiment.shared.programs.masks(state, context))
    live = _live_entries(experiment.target.partition, masks)
    weights = {layer.path: layer.entries for layer in experiment.layers if len(layer.shape) > 1}
    units = {name: (int(mask.sum()), mask.size) for name, mask in masks.items()}
    chosen = {name: weights[name] for name in units}
    return {
        "method": config["method"]["name"],
        "plan": config["plan"]["name"],
        "seed": config["seed"],
        "steps": config["steps"],
        "asked_sparsity": float(1 - exact(config["density"])),
        "achieved_sparsity": float(costs.actual_sparsity(chosen, units)) if units else 0.0,
        "network_sparsity": float(costs.actual_sparsity(weights, units)),
        "accuracy": scores["accuracy"],
        "loss": scores["loss"],
        "parameters": sum(uses.entries.values()),
        "parameters_live": sum({**uses.entries, **live}.values()),
        "macs": costs.macs(uses),
        "macs_live": costs.macs(uses, live),
        "compilations": sum(experiment.shared.programs.compilations.values()),
    }


def _live_entries(partition: Partition, masks: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Entries of each weight that are alive, ragged blocks counted by what they really hold."""
    return {
        view.path: int((costs.unit_entries(view) * masks[name]).sum())
        for name, group in partition.items()
        if name in masks
        for view in group.gated
    }


def _export(
    experiment: Experiment,
    workdir: Path,
    state: TrainState,
    context: Context,
    summary: Mapping[str, Any],
) -> None:
    """Writes the plain sparse model, with its masks and where it comes from."""
    folded = experiment.shared.fold(state.wrapped, context)
    export.write(
        workdir,
        {**folded, **state.mutable},
        partition=experiment.target.partition,
        masks=experiment.shared.programs.masks(state, context),
        layers=experiment.layers,
        provenance={"config": experiment.config, "summary": dict(summary), **surroundings()},
    )


def surroundings() -> dict[str, Any]:
    """What decides a run's bits beside its config: versions, device kind, cores."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        "versions": {
            "sparsity": sparsity.__version__,
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "device": f"{device.platform} {device.device_kind}",
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
    }


def _refuse_nonfinite(state: TrainState) -> None:
    """Keeps NaNs out of the checkpoints, so that the last one is good."""
    tree = jax.device_get(trained(state.wrapped))
    bad = [path for path, leaf in leaves(tree).items() if not np.isfinite(leaf).all()]
    if bad:
        raise Diverged(f"not finite at step {int(state.step)}: {', '.join(bad)}")


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as it comes back from its file."""
    try:
        return json.loads(json.dumps(config))
    except TypeError as error:
        raise ValueError(f"a config is plain data, as in JSON: {error}") from None


def _same_config(config: Mapping[str, Any], workdir: Path) -> None:
    path = workdir / "config.json"
    if not path.exists():
        return
    there = _flat(_read(path))
    here = _flat(config)
    changed = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    if changed:
        listed = "\n  ".join(f"{k}: {there.get(k)!r} there, {here.get(k)!r} asked" for k in changed)
        raise ValueError(
            f"{workdir} belongs to another config; take another directory, or ask for:\n  {listed}"
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _status(workdir: Path, status: str, cause: str = "") -> None:
    _write(workdir / "status.json", {"status": status, "cause": cause, **surroundings()})


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, value: Any) -> None:
    """Whole or not at all: a reader never sees half a file."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def main(argv: list[str]) -> None:
    """The command line."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    try:
        summary = launch(CONFIG.value.to_dict(), Path(str(WORKDIR.value)))
    except (ValueError, OSError, ImportError, Diverged) as error:
        raise SystemExit(f"{error}") from error
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment's config file.")
    WORKDIR = flags.DEFINE_string("workdir", None, "The run's directory.")
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
