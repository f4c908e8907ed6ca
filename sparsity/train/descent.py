"""One training step: a batch, its loss under what the method applies, and the optimiser's move."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsity.contract import Applied, Context, Method, Signals, State
from sparsity.train import freezing
from sparsity.train.engaged import Engaged, whole
from sparsity.train.execution import Execution
from sparsity.train.forward import Model
from sparsity.train.objectives import Objective
from sparsity.train.products import on_live_blocks
from sparsity.train.state import TrainState, trained
from sparsity.units.partition import Partition, scale

Batch = dict[str, jax.Array]
Draw = Callable[[Any, jax.Array, jax.Array], Batch]
# A run's state as its steps take it: in dense storage, or engaged for a phase.
Held = TrainState | Engaged


class Span(NamedTuple):
    """The phase that a step lies in: its first step, its steps, its learning-rate factor (all traced)."""

    start: Any
    length: Any
    lr: Any = 1.0


class Parts(NamedTuple):
    """What the programs of a run are made of; see `step.programs`."""

    model: Model
    method: Method
    partition: Partition
    tx: optax.GradientTransformationExtraArgs
    draw: Draw
    objective: Objective
    execution: Execution


def batch_at(parts: Parts, state: TrainState, source: Any, ahead: jax.Array | int = 0):
    """The batch of the step that is `ahead` of the state's, and keys for the method and the model."""
    step = state.step + ahead
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), step)
    for_data, for_method, for_model = jax.random.split(key, 3)
    return parts.draw(source, step, for_data), for_method, for_model


def descent(
    parts: Parts,
    held: Held,
    source: Any,
    context: Context,
    span: Span,
    frozen: tuple[str, ...],
    dead: str,
) -> Held:
    """The state one step on. With dead="zeroed" its dead weights are 0, as a tick or `buried` leaves them."""
    state = held.state if isinstance(held, Engaged) else held
    batch, for_method, for_model = batch_at(parts, state, source)
    progress = (state.step - span.start) / span.length
    # The weights were buried by the tick or the step before this one.
    context = dataclasses.replace(
        context, progress=progress, key=for_method, zeroed=dead == "zeroed"
    )
    before = trained(state.wrapped)

    def minimised(tree):
        wrapped = state.wrapped._replace(params=tree["params"], gates=tree["gates"])
        applied = _applied(parts, held, wrapped, context)
        logits, mutable = parts.model.apply(
            applied.params, state.mutable, batch["image"], True, applied.hooks, for_model
        )
        fit = jnp.mean(parts.objective.fit(logits, batch["label"]))
        penalty = _penalty(parts, held, wrapped, context)
        correct = jnp.sum(parts.objective.right(logits, batch["label"])).astype(jnp.float32)
        return fit + penalty, (fit, penalty, correct, mutable)

    (total, (fit, penalty, correct, mutable)), grads = jax.value_and_grad(minimised, has_aux=True)(
        before
    )
    updates, opt = parts.tx.update(grads, state.opt, before, lr_factor=span.lr, value=total)
    if frozen:
        updates = freezing.frozen(updates, frozen)
        opt = freezing.hold(parts.tx, opt, state.opt, before, frozen)
    after: Any = optax.apply_updates(before, updates)
    wrapped = state.wrapped._replace(**after)
    new = {"loss": fit, "penalty": penalty, "correct": correct, "steps": 1}
    new["examples"] = jnp.float32(batch["label"].shape[0])
    return with_state(
        held,
        step=state.step + 1,
        wrapped=_after(parts, held, wrapped, context, dead),
        opt=opt,
        mutable=mutable,
        sums={name: total + new[name] for name, total in state.sums.items()},
    )


def with_state(held: Held, **new: Any) -> Held:
    """The state with some of its fields exchanged, engaged as it was."""
    if isinstance(held, Engaged):
        return dataclasses.replace(held, state=held.state._replace(**new))
    return held._replace(**new)


def buried(
    partition: Partition, method: Method, wrapped: State, context: Context, dead: str
) -> State:
    """The state with its dead weights set to 0, where the phase asks for it."""
    if dead == "kept" or not context.masked:
        return wrapped
    masks = method.masks(wrapped, context)
    return wrapped._replace(params=scale(partition, masks, wrapped.params))


def _applied(parts: Parts, held: Held, wrapped: State, context: Context) -> Applied:
    if not isinstance(held, Engaged):
        return parts.method.apply(wrapped, context)
    unspread = dataclasses.replace(context, unspread=True)
    applied = parts.method.apply(wrapped, unspread)
    masks = parts.method.masks(wrapped, unspread)
    return on_live_blocks(parts.partition, held, applied, masks, context, parts.execution.mesh)


def _penalty(parts: Parts, held: Held, wrapped: State, context: Context) -> jax.Array:
    if isinstance(held, Engaged):
        wrapped = wrapped._replace(params=whole(held, wrapped.params))
    return parts.method.penalty(wrapped, context, Signals())


def _after(parts: Parts, held: Held, wrapped: State, context: Context, dead: str) -> State:
    """`buried`, without a word for packed layers, which hold no dead weights."""
    partition = parts.partition
    if isinstance(held, Engaged):
        packed = {way.group for way in held.ways.layers if way.packed}
        partition = {name: group for name, group in partition.items() if name not in packed}
        context = dataclasses.replace(context, unspread=True)
    return buried(partition, parts.method, wrapped, context, dead)
