"""The programs under the clock: training steps and mask updates of the methods, each on a state of its own."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmarks.networks import Bench, context, made
from sparsity.contract import Signals
from sparsity.plan.phases import Kind
from sparsity.train.state import TrainState
from sparsity.train.step import Programs, Span


class Arm(NamedTuple):
    """A step of a method in a kind of phase, or a mask update on entering one."""

    method: str
    kind: Kind
    dead: str = "kept"
    updates: bool = False


DENSE = "dense step"
ARMS: Mapping[str, Arm] = {
    DENSE: Arm("dense", Kind.DENSE),
    "dense step again": Arm("dense", Kind.DENSE),
    "masked step": Arm("magnitude", Kind.SPARSE),
    "masked step, dead weights zeroed": Arm("magnitude", Kind.SPARSE, dead="zeroed"),
    "soft step, dense phase": Arm("sequential_attention", Kind.DENSE),
    "soft step, masked": Arm("sequential_attention", Kind.SPARSE),
    "mask update, magnitude": Arm("magnitude", Kind.SPARSIFY, updates=True),
    "mask update, attention": Arm("sequential_attention", Kind.SPARSIFY, updates=True),
}


def state_of(bench: Bench, arm: Arm, its: Programs) -> TrainState:
    """A fresh state; in a phase with masks, under masks of the bench's density."""
    state = its.create(jax.random.key(0), bench.image)
    if arm.kind == Kind.DENSE or arm.updates:
        return state
    state, _ = its.tick(state, context(bench, Kind.SPARSIFY), Signals(), dead="kept")
    return its.bury(state, context(bench, arm.kind)) if arm.dead == "zeroed" else state


def lowered(bench: Bench, arm: Arm, its: Programs, state: TrainState) -> jax.stages.Lowered:
    """The arm's program, traced; calling it later with the same compiles nothing again."""
    on = context(bench, arm.kind)
    if arm.updates:
        tick: Any = its.tick
        return tick.lower(state, on, Signals(), dead=arm.dead)
    return its.train.lower(state, bench.batch, on, span(), frozen=(), dead=arm.dead)


def running(bench: Bench, arm: Arm) -> Callable[[], None]:
    """A call of the arm, which waits for its end."""
    its = made(bench, arm.method)
    state = state_of(bench, arm, its)
    run = _updating if arm.updates else _stepping
    return run(bench, arm, its, state)


def _stepping(bench: Bench, arm: Arm, its: Programs, state: TrainState) -> Callable[[], None]:
    on, first = context(bench, arm.kind), span()

    def run() -> None:
        nonlocal state
        state = its.train(state, bench.batch, on, first, frozen=(), dead=arm.dead)
        jax.block_until_ready(state)

    return run


def _updating(bench: Bench, arm: Arm, its: Programs, state: TrainState) -> Callable[[], None]:
    """What the loop does at a tick: counts on the host, new masks, the report read."""

    def run() -> None:
        nonlocal state
        state, report = its.tick(state, context(bench, arm.kind), Signals(), dead=arm.dead)
        jax.block_until_ready((state, jax.device_get(report)))

    return run


def span() -> Span:
    """A phase of 1,000 steps that begins at step 0, on the device."""
    return jax.device_put(Span(np.int32(0), np.int32(1000), np.float32(1.0)))
