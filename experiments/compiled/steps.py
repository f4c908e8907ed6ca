"""The training step of a config, compiled for devices and not run: what it exchanges, holds and multiplies."""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.assembly import streaming
from experiments.assembly.assemble import Experiment, assembled, begun, feed
from experiments.assembly.placement import Placement
from experiments.assembly.shared_out import shared_out
from experiments.compiled.collectives import exchanges
from experiments.compiled.memory import needed
from sparsity.target import context_of
from sparsity.train.sharding import shardings
from sparsity.train.state import TrainState, trained
from sparsity.train.step import Span
from sparsity.units.partition import leaves

FLOAT32 = 4


class Due(NamedTuple):
    """What a step has to sum over devices that share a batch and nothing else, in bytes.

    gradients: of what is trained, each as wide as what it is the gradient of is computed in. norms: of batch
    norms over the whole batch, means of x and x**2 forwards, and backwards two sums that are the gradients
    of scale and bias as well, in float32. metrics: the loss, and how many were right.
    """

    gradients: int
    norms: int
    metrics: int = 8


def due(config: Mapping[str, Any], state: TrainState) -> Due:
    """What is due of a network whose norms, if it has any, are batch norms with scale and bias."""
    channels = sum(leaf.size for leaf in leaves(state.mutable).values()) // 2
    numbers = sum(leaf.size for leaf in leaves(trained(state.wrapped)).values()) - 2 * channels
    width = jnp.dtype(config["model"].get("dtype", "float32")).itemsize
    return Due(numbers * width, 4 * channels * FLOAT32)


def figures(
    config: Mapping[str, Any], place: Placement, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What the compiler says of the last phase's step: plain data, of one device and one step.

    options: the compiler's. Raises ValueError for a config that cannot run, and what a compiler raises where
    the step does not fit on a device.
    """
    experiment = assembled(config, place, without_data=True)
    state = _state(experiment)
    began = time.monotonic()
    compiled = _lowered(experiment, state).compile(compiler_options=dict(options or {}))
    return {
        "due": due(config, state)._asdict(),
        "exchanges": [one._asdict() for one in exchanges(compiled.as_text() or "")],
        "memory": needed(compiled),
        "flops": _flops(compiled),
        "seconds": round(time.monotonic() - began, 1),
    }


def _state(experiment: Experiment) -> TrainState:
    """A fresh state as it lies on the devices; of those that are only described, its shapes there."""
    place, made = experiment.placement, experiment.shared
    if place.here:
        return begun(experiment)
    example = jnp.zeros(experiment.inputs.shape, experiment.inputs.dtype)
    key = jax.random.key(experiment.config["seed"])
    lies = shared_out(experiment.config, place, made.partition, made.shapes)
    if lies is None:
        return place.put(made.programs.create(key, example))
    state = jax.eval_shape(made.programs.create, key, example)
    return jax.tree.map(
        lambda leaf, lie: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=lie),
        state,
        shardings(lies, state),
    )


def _lowered(experiment: Experiment, state: TrainState) -> jax.stages.Lowered:
    place, phase = experiment.placement, experiment.plan[-1]
    context = place.put(context_of(experiment.target, phase))
    span = place.put(Span(np.int32(0), np.int32(phase.length), np.float32(1.0)))
    keys = {"frozen": phase.frozen, "dead": phase.dead}
    return experiment.shared.programs.train.lower(state, _source(experiment), context, span, **keys)


def _source(experiment: Experiment) -> Any:
    """What the step draws its batch from; of streamed pictures the shapes, each device with its rows."""
    part = experiment.sets.train
    if not isinstance(part, streaming.Part):
        return feed(experiment)(0)
    described = experiment.placement._replace(here=False)
    window = streaming.specimen(part, experiment.config["batch"])
    first = described.put(window.pop("first"))
    return {**described.rows(window, axis=1), "first": first}


def _flops(compiled: jax.stages.Compiled) -> float:
    """Multiplications and additions of one device, as the compiler counts them; NaN where it does not."""
    found: Any = compiled.cost_analysis()
    return float((found[0] if isinstance(found, list) else found or {}).get("flops", math.nan))
