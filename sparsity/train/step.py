"""The jitted programs of a run: a training step, a tick, an evaluation; each compiled once per key.

Seeds, densities, learning rates and places in the plan are traced values: runs that differ in these
alone share the programs, and `Programs.compilations` counts what was compiled.
"""

import collections
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sparsity.contract import Context, Method, Signals, State
from sparsity.train import freezing, moments
from sparsity.train.forward import Model
from sparsity.train.state import TrainState, create, no_sums, trained
from sparsity.units.changes import changes, spread_of
from sparsity.units.partition import (
    Partition,
    Units,
    leaves,
    path_of,
    replaced,
    scale,
    spread,
)

Batch = dict[str, jax.Array]
Draw = Callable[[Any, jax.Array, jax.Array], Batch]
Loss = Callable[[jax.Array, Batch], jax.Array]


class Span(NamedTuple):
    """The phase that a step lies in: its first step, its steps, its learning-rate factor (all traced)."""

    start: Any
    length: Any
    lr: Any = 1.0


class Programs(NamedTuple):
    """create:  (key, inputs) -> TrainState.
    train:     (state, source, context, span, *, frozen, dead) -> state; the state is donated. With
               dead="zeroed" its dead weights are 0, as `tick` or `bury` leave them.
    tick:      (state, context, signals, *, zero_moments, dead) -> (state, report): new masks; donated.
    bury:      (state, context) -> state with its dead weights set to 0; donated.
    restart:   state -> state with the optimiser's moments as at the start; donated.
    signals:   (state, source, context) -> Signals, as the method needs.
    evaluate:  (state, context, batch) -> sums of loss, correct and examples.
    masks:     (state, context) -> the method's masks.
    settle:    (state, source, context, *, batches) -> state with its batch statistics recomputed.
    logged:    state -> state with its sums of metrics at 0; donated.
    compilations: how often each program was traced, by its key.
    """

    create: Callable[..., TrainState]
    train: jax.stages.Wrapped
    tick: Callable[..., tuple[TrainState, Any]]
    bury: Callable[..., TrainState]
    restart: Callable[..., TrainState]
    signals: Callable[..., Signals]
    evaluate: Callable[..., Any]
    masks: Callable[..., Units]
    settle: Callable[..., TrainState]
    logged: Callable[..., TrainState]
    compilations: collections.Counter
    method: Method


def cross_entropy(smoothing: float = 0.0) -> Loss:
    """Mean cross-entropy of integer labels (N,) under logits (N, classes)."""

    def loss(logits: jax.Array, batch: Batch) -> jax.Array:
        return jnp.mean(_per_example(logits, batch["label"], smoothing))

    return loss


def _per_example(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    target = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, target)


def programs(
    model: Model,
    method: Method,
    partition: Partition,
    tx: optax.GradientTransformation,
    draw: Draw,
    loss: Loss,
) -> Programs:
    """The programs of all runs that share a model, a method, a partition and an optimiser.

    draw: (source, step, key) -> batch with "image" and "label"; called inside the jitted programs, with
    whatever arrays the loop hands in as source.
    """
    tx = optax.with_extra_args_support(tx)
    count: collections.Counter = collections.Counter()

    def batch_at(state: TrainState, source: Any, ahead: jax.Array | int = 0):
        """The batch of the step that is `ahead` of the state's, and keys for the method and the model."""
        step = state.step + ahead
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), step)
        for_data, for_method, for_model = jax.random.split(key, 3)
        return draw(source, step, for_data), for_method, for_model

    wrap = jax.jit(lambda key, params, mutable: create(key, method, tx, params, mutable))

    def create_from(key, inputs):
        for_model, for_run = jax.random.split(key)
        return wrap(for_run, *model.init(for_model, inputs))

    def train(state, source, context, span, *, frozen=(), dead="kept"):
        count["train", str(context.phase), frozen, dead] += 1
        batch, for_method, for_model = batch_at(state, source)
        progress = (state.step - span.start) / span.length
        # The weights were buried by the tick or the step before this one.
        context = dataclasses.replace(
            context, progress=progress, key=for_method, zeroed=dead == "zeroed"
        )
        before = trained(state.wrapped)

        def objective(tree):
            wrapped = state.wrapped._replace(params=tree["params"], gates=tree["gates"])
            applied = method.apply(wrapped, context)
            logits, mutable = model.apply(
                applied.params, state.mutable, batch["image"], True, applied.hooks, for_model
            )
            fit, penalty = loss(logits, batch), method.penalty(wrapped, context, Signals())
            return fit + penalty, (fit, penalty, _correct(logits, batch), mutable)

        (total, (fit, penalty, correct, mutable)), grads = jax.value_and_grad(
            objective, has_aux=True
        )(before)
        updates, opt = tx.update(grads, state.opt, before, lr_factor=span.lr, value=total)
        if frozen:
            updates = freezing.frozen(updates, frozen)
            opt = freezing.hold(tx, opt, state.opt, before, frozen)
        wrapped = state.wrapped._replace(**optax.apply_updates(before, updates))
        wrapped = _buried(partition, method, wrapped, context, dead)
        examples = jnp.float32(batch["label"].shape[0])
        new = {
            "loss": fit,
            "penalty": penalty,
            "correct": correct,
            "examples": examples,
            "steps": 1,
        }
        sums = {name: total + new[name] for name, total in state.sums.items()}
        return state._replace(
            step=state.step + 1, wrapped=wrapped, opt=opt, mutable=mutable, sums=sums
        )

    def tick(state, context, signals, *, zero_moments=False, dead="kept"):
        count["tick", str(context.phase), zero_moments, dead] += 1
        old = method.masks(state.wrapped, context)
        wrapped = method.update(state.wrapped, context, signals)
        new = method.masks(wrapped, context)
        wrapped = _buried(partition, method, wrapped, context, dead)
        opt, tree = state.opt, trained(wrapped)
        if zero_moments:
            opt = moments.zero_units(tx, opt, tree, _unchanged(partition, old, new, tree))
        seen = {**leaves(tree), **leaves({"signals": signals})}
        finite = {path: jnp.all(jnp.isfinite(x)) for path, x in seen.items()}
        soft = dict(method.apply(wrapped, context).multipliers)
        report = {
            "masks": changes(old, new),
            "multipliers": spread_of(partition, soft, context.target),
            "finite": finite,
        }
        return state._replace(wrapped=wrapped, opt=opt), report

    def bury(state, context):
        count["bury", str(context.phase)] += 1
        return state._replace(wrapped=_buried(partition, method, state.wrapped, context, "zeroed"))

    def restart(state):
        count["restart",] += 1
        return state._replace(opt=moments.restart(tx, state.opt, trained(state.wrapped)))

    def signals(state, source, context):
        count["signals", str(context.phase)] += 1
        applied = method.apply(state.wrapped, context)

        def loss_of(params, ahead):
            batch, _, for_model = batch_at(state, source, ahead)
            logits, _ = model.apply(
                params, state.mutable, batch["image"], True, applied.hooks, for_model
            )
            return loss(logits, batch)

        def add(ahead, sums):
            grads = jax.grad(loss_of)(applied.params, ahead)
            squares = jax.tree.map(jnp.square, grads) if method.needs.grads_squared else None
            return jax.tree.map(jnp.add, sums, (grads, squares))

        zeros = jax.tree.map(jnp.zeros_like, applied.params)
        start = (zeros, zeros if method.needs.grads_squared else None)
        total = jax.lax.fori_loop(0, method.needs.batches, add, start)
        grads, squares = jax.tree.map(lambda x: x / method.needs.batches, total)
        return Signals(grads if method.needs.grads else None, squares)

    def evaluate(state, context, batch):
        count["evaluate", str(context.phase)] += 1
        applied = method.apply(state.wrapped, context)
        logits, _ = model.apply(applied.params, state.mutable, batch["image"], False, applied.hooks)
        weight = batch["weight"]
        right = jnp.argmax(logits, axis=-1) == batch["label"]
        losses = _per_example(logits, batch["label"])
        return {
            # A padded example counts nothing, whatever it holds.
            "loss": jnp.sum(jnp.where(weight > 0, losses * weight, 0.0)),
            "correct": jnp.sum(right * weight),
            "examples": jnp.sum(weight),
        }

    def settle(state, source, context, *, batches):
        count["settle", str(context.phase)] += 1
        applied = method.apply(state.wrapped, context)

        def forward(ahead, mutable):
            batch, _, for_model = batch_at(state, source, ahead)
            return model.apply(
                applied.params, mutable, batch["image"], True, applied.hooks, for_model
            )[1]

        return state._replace(mutable=jax.lax.fori_loop(0, batches, forward, state.mutable))

    return Programs(
        create=create_from,
        train=jax.jit(train, static_argnames=("frozen", "dead"), donate_argnums=0),
        # Rare and small: optimised to the full, it compiles 1.7 times as long and runs no faster.
        tick=jax.jit(
            tick,
            static_argnames=("zero_moments", "dead"),
            donate_argnums=0,
            compiler_options={"xla_backend_optimization_level": 1},
        ),
        bury=jax.jit(bury, donate_argnums=0),
        restart=jax.jit(restart, donate_argnums=0),
        signals=jax.jit(signals),
        evaluate=jax.jit(evaluate),
        masks=jax.jit(lambda state, context: method.masks(state.wrapped, context)),
        settle=jax.jit(settle, static_argnames="batches", donate_argnums=0),
        logged=jax.jit(lambda state: state._replace(sums=no_sums()), donate_argnums=0),
        compilations=count,
        method=method,
    )


def _correct(logits: jax.Array, batch: Batch) -> jax.Array:
    return jnp.sum(jnp.argmax(logits, axis=-1) == batch["label"]).astype(jnp.float32)


def _buried(
    partition: Partition, method: Method, wrapped: State, context: Context, dead: str
) -> State:
    """The state with its dead weights set to 0, where the phase asks for it."""
    if dead == "kept" or not context.masked:
        return wrapped
    masks = method.masks(wrapped, context)
    return wrapped._replace(params=scale(partition, masks, wrapped.params))


def _unchanged(
    partition: Partition, old: Units, new: Units, tree: dict[str, Any]
) -> dict[str, Any]:
    """1 for every trained entry but those of units that were just pruned or regrown."""
    same = {name: old[name] == new[name] for name in new}
    ones = jax.tree.map(lambda leaf: jnp.ones((), bool), tree)
    params = replaced(ones["params"], spread(partition, same, tree["params"]))
    return {"params": params, "gates": _gates_unchanged(ones["gates"], same)}


def _gates_unchanged(gates: Any, same: Units) -> Any:
    """Gates are named after their groups, wherever a chain has put them."""

    def of(keys: tuple[Any, ...], one: jax.Array) -> jax.Array:
        return same.get(path_of(keys[-1:]), one) if keys else one

    return jax.tree_util.tree_map_with_path(of, gates)
