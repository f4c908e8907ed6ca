"""The jitted programs of a run: a training step, a tick, an evaluation; each compiled once per key.

Seeds, densities, learning rates and places in the plan are traced values: runs that differ in these
alone share the programs, and `Programs.compilations` counts what was compiled.
"""

import collections
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from sparsity.contract import Method, Signals
from sparsity.train import between, engaged
from sparsity.train.descent import Draw, Held, Parts, Span, descent, with_state
from sparsity.train.engaged import Engaged, Ways
from sparsity.train.execution import MASKED, Execution
from sparsity.train.forward import Model
from sparsity.train.gathering import gathering
from sparsity.train.objectives import Objective
from sparsity.train.sharding import Layout, held
from sparsity.train.state import TrainState, create, no_sums
from sparsity.units.partition import Partition, Units

__all__ = ["Draw", "Programs", "Span", "programs"]


class Programs(NamedTuple):
    """create:  (key, inputs) -> TrainState.
    train:     (state, source, context, span, *, frozen, dead) -> state, engaged where the given one is; it
               is donated. With dead="zeroed" its dead weights are 0, as `tick` or `bury` leave them.
    engage:    (state, context, *, ways) -> the state on the layouts of its masks, for the steps of a phase.
    release:   engaged state -> state, as all but `train` and `logged` take it.
    tick:      (state, context, signals, *, zero_moments, dead) -> (state, report): new masks; donated.
    bury:      (state, context) -> state with its dead weights set to 0; donated.
    restart:   state -> state with the optimiser's moments as at the start; donated.
    signals:   (state, source, context) -> Signals, as the method needs.
    evaluate:  (state, context, batch) -> sums of loss, correct and examples, and the examples' scores
               and labels where the objective ranks by them.
    masks:     (state, context) -> the method's masks.
    settle:    (state, source, context, *, batches) -> state with its batch statistics recomputed.
    logged:    state, engaged or not -> the same with its sums of metrics at 0; donated.
    compilations: how often each program was traced, by its key.
    execution: which phases are to run on live blocks, and where they can.
    """

    create: Callable[..., TrainState]
    train: jax.stages.Wrapped
    engage: Callable[..., Engaged]
    release: Callable[[Engaged], TrainState]
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
    execution: Execution


def programs(
    model: Model,
    method: Method,
    partition: Partition,
    tx: optax.GradientTransformation,
    draw: Draw,
    objective: Objective,
    execution: Execution = MASKED,
    lies: Layout | None = None,
) -> Programs:
    """The programs of all runs that share a model, a method, a partition and an optimiser.

    draw: (source, step, key) -> batch with "image" and "label"; called inside the jitted programs, with
    whatever arrays the loop hands in as source.
    lies: how a state's leaves are shared out over devices; None leaves them where they come.
    """
    tx = optax.with_extra_args_support(tx)
    model = gathering(model, lies) if lies else model
    count: collections.Counter = collections.Counter()
    parts = Parts(model, method, partition, tx, draw, objective, execution)
    hold = functools.partial(held, lies) if lies else lambda state: state
    wrap = jax.jit(lambda key, params, mutable: hold(create(key, method, tx, params, mutable)))

    def create_from(key, inputs, init=model.init):
        for_model, for_run = jax.random.split(key)
        return wrap(for_run, *init(for_model, inputs))

    def train(state, source, context, span, *, frozen=(), dead="kept"):
        count["train", str(context.phase), frozen, dead, ways_of(state)] += 1
        after = descent(parts, state, source, context, span, frozen, dead)
        return after if isinstance(after, Engaged) else hold(after)

    def engage(state, context, *, ways):
        count["engage", str(context.phase), ways] += 1
        return engaged.engage(state, method.masks(state.wrapped, context), ways)

    def release(held):
        count["release", held.ways] += 1
        return engaged.release(held)

    def tick(state, context, signals, *, zero_moments=False, dead="kept"):
        count["tick", str(context.phase), zero_moments, dead] += 1
        new, report = between.tick(parts, state, context, signals, zero_moments, dead)
        return hold(new), report

    def bury(state, context):
        count["bury", str(context.phase)] += 1
        return hold(between.bury(parts, state, context))

    def restart(state):
        count["restart",] += 1
        return hold(between.restart(parts, state))

    def signals(state, source, context):
        count["signals", str(context.phase)] += 1
        return between.signals(parts, state, source, context)

    def evaluate(state, context, batch):
        count["evaluate", str(context.phase)] += 1
        return between.evaluate(parts, state, context, batch)

    def settle(state, source, context, *, batches):
        count["settle", str(context.phase)] += 1
        return hold(between.settle(parts, state, source, context, batches))

    return Programs(
        # As one program where weights are shared out, so that none is ever whole on one device.
        create=jax.jit(functools.partial(create_from, init=inspect.unwrap(model.init)))
        if lies
        else create_from,
        train=jax.jit(train, static_argnames=("frozen", "dead"), donate_argnums=0),
        engage=jax.jit(engage, static_argnames="ways"),
        release=jax.jit(release),
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
        logged=jax.jit(lambda held: with_state(held, sums=no_sums()), donate_argnums=0),
        compilations=count,
        method=method,
        execution=execution,
    )


def ways_of(held: Held) -> Ways:
    """The layers that a state's steps multiply by live blocks."""
    return held.ways if isinstance(held, Engaged) else Ways()
