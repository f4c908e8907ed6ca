"""Loss and accuracy over a whole set, and the numbers that a finished run is judged by."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from experiments.assembly.assemble import Experiment
from experiments.assembly.sets import held
from experiments.processes.gathering import whole
from sparsity.contract import Context
from sparsity.train.loop import Diverged
from sparsity.train.ranking import auc
from sparsity.train.state import TrainState
from sparsity.units import costs
from sparsity.units.blocks import exact
from sparsity.units.partition import Partition

RANKED = ("scores", "labels")
AHEAD = 4  # batches that the host may be ahead of the device


def evaluation(
    experiment: Experiment, check: Callable[[], None] = lambda: None
) -> Callable[[TrainState, Context], dict[str, Any]]:
    """(state, context) -> loss and accuracy over the whole evaluation set, each example once, and where the
    objective ranks examples the exact area under the ROC curve, "auc".

    check: called between batches; may raise to leave the evaluation.
    """
    examples, batches = experiment.sets.test.size, held(experiment.sets, experiment.placement)

    def scores(state: TrainState, context: Context) -> dict[str, Any]:
        parts = []
        for batch in batches():
            check()
            parts.append(experiment.shared.programs.evaluate(state, context, batch))
            jax.block_until_ready(parts[-AHEAD:][0])
        found = jax.device_get(parts)
        ranked = {name: [part.pop(name) for part in found] for name in RANKED if name in found[0]}
        sums = {name: sum(float(part[name]) for part in found) for name in found[0]}
        if not math.isfinite(sums["loss"]):
            raise Diverged(f"the evaluated loss is {sums['loss']} at step {int(state.step)}")
        return {
            "loss": sums["loss"] / sums["examples"],
            "accuracy": sums["correct"] / sums["examples"],
            **_auc(ranked, examples),
        }

    return scores


def _auc(ranked: Mapping[str, list[np.ndarray]], examples: int) -> dict[str, float]:
    """From the scores and labels of all batches; what fills up the last stands behind all examples.

    Nothing where there are no scores, or only one of the labels.
    """
    if not ranked:
        return {}
    area = auc(*(np.concatenate(ranked[name])[:examples] for name in RANKED))
    return {"auc": area} if math.isfinite(area) else {}


def summary(
    experiment: Experiment, state: TrainState, context: Context, scores: Mapping[str, Any]
) -> dict[str, Any]:
    """What came out: accuracy, sparsity asked and achieved, parameters and MACs before and after."""
    config, uses = experiment.config, experiment.shared.uses
    masks = whole(experiment.shared.programs.masks(state, context))
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
        **{name: scores[name] for name in ("auc",) if name in scores},
        "parameters": sum(uses.entries.values()),
        "parameters_live": sum({**uses.entries, **live}.values()),
        "macs": costs.macs(uses),
        "macs_live": costs.macs(uses, live),
    }


def _live_entries(partition: Partition, masks: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Entries of each weight that are alive, ragged blocks counted by what they really hold."""
    return {
        view.path: int((costs.unit_entries(view) * masks[name]).sum())
        for name, group in partition.items()
        if name in masks
        for view in group.gated
    }
