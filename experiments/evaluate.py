"""Loss and accuracy over a whole set, and the numbers that a finished run is judged by."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from experiments import streaming
from experiments.assemble import Experiment
from sparsity.contract import Context
from sparsity.data.order import eval_batches
from sparsity.data.resident import Resident, batch
from sparsity.train.loop import Diverged
from sparsity.train.state import TrainState
from sparsity.units import costs
from sparsity.units.blocks import exact
from sparsity.units.partition import Partition

EVALUATED = 512  # images per step of an evaluation
AHEAD = 4  # steps that the host may run ahead of the device


def evaluation(
    experiment: Experiment, check: Callable[[], None] = lambda: None
) -> Callable[[TrainState, Context], dict[str, Any]]:
    """(state, context) -> loss and accuracy over the whole evaluation set, each image once.

    check: called between batches; may raise to leave the evaluation.
    """
    batches = scored(experiment)

    def scores(state: TrainState, context: Context) -> dict[str, Any]:
        parts = []
        for rows in batches():
            check()
            parts.append(experiment.shared.programs.evaluate(state, context, rows))
            jax.block_until_ready(parts[-AHEAD:][0])
        found = jax.device_get(parts)
        sums = {name: sum(float(part[name]) for part in found) for name in found[0]}
        if not math.isfinite(sums["loss"]):
            raise Diverged(f"the evaluated loss is {sums['loss']} at step {int(state.step)}")
        return {
            "loss": sums["loss"] / sums["examples"],
            "accuracy": sums["correct"] / sums["examples"],
        }

    return scores


def scored(experiment: Experiment) -> Callable[[], Iterator[dict[str, jax.Array]]]:
    """() -> the batches of the evaluation set, each with the weight of each example."""
    sets, place = experiment.sets, experiment.placement
    if isinstance(sets, streaming.Streams):
        return lambda: streaming.scored(sets, EVALUATED, place)
    held = sets.resident_test
    cuts = place.put(eval_batches(len(sets.test.labels), EVALUATED))
    places = place.put(list(np.arange(len(cuts[0]), dtype=np.int32)))
    return lambda: (_cut(held, cuts, at) for at in places)


@jax.jit
def _cut(held: Resident, cuts: tuple[jax.Array, jax.Array], i: jax.Array) -> dict[str, jax.Array]:
    """The i-th batch of the evaluation, with the weight of each image."""
    indices, weights = cuts
    return {**batch(held, indices[i]), "weight": weights[i]}


def summary(
    experiment: Experiment, state: TrainState, context: Context, scores: Mapping[str, Any]
) -> dict[str, Any]:
    """What came out: accuracy, sparsity asked and achieved, parameters and MACs before and after."""
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
    }


def _live_entries(partition: Partition, masks: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Entries of each weight that are alive, ragged blocks counted by what they really hold."""
    return {
        view.path: int((costs.unit_entries(view) * masks[name]).sum())
        for name, group in partition.items()
        if name in masks
        for view in group.gated
    }
