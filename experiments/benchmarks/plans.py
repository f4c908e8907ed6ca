"""Whole plans beside a dense run of as many steps: the loop, its ticks, logs and evaluations."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmarks.networks import Bench, made
from sparsity.contract import Context
from sparsity.plan import plans
from sparsity.plan.phases import Plan, parse
from sparsity.train.loop import Every, Run, fit
from sparsity.train.state import TrainState
from sparsity.train.step import Programs


class Course(NamedTuple):
    """A method under its plan; mode: how phases of fixed masks are run."""

    method: str
    plan: Callable[[], Plan]
    mode: str = "masked"


DENSE_RUN = "dense run"
PLANS: Mapping[str, Course] = {
    DENSE_RUN: Course("dense", plans.dense),
    "gradual magnitude": Course("magnitude", plans.gradual),
    "SequentialAttention++": Course("sequential_attention", plans.sequential_attention),
    "gradual magnitude, execution auto": Course("magnitude", plans.gradual, "auto"),
    "SequentialAttention++, execution auto": Course(
        "sequential_attention", plans.sequential_attention, "auto"
    ),
}
# Every plan has all its kinds of phases in so few steps.
SHORT = 30


def planned(bench: Bench, name: str, its: Programs, steps: int = SHORT) -> Run:
    """The run of a plan: it logs every third of it, and evaluates one batch at the end."""
    course = PLANS[name]
    sparse = name != DENSE_RUN
    plan = parse(course.plan(), steps=steps, steps_per_epoch=steps, sparse=sparse)

    def evaluate(state: TrainState, context: Context) -> dict[str, Any]:
        return jax.device_get(its.evaluate(state, context, evaluated(bench)))

    return Run(
        its, plan, bench.target, lambda step: bench.batch, evaluate, every=Every(log=steps // 3)
    )


def evaluated(bench: Bench) -> dict[str, jax.Array]:
    """The batch that is evaluated, every example counted."""
    return {**bench.batch, "weight": jax.device_put(np.ones(bench.net.batch, np.float32))}


def going(bench: Bench, name: str, steps: int) -> Callable[[], None]:
    """A call of the whole run, from a fresh state to its end, with all its programs compiled already."""
    its = made(bench, PLANS[name].method, PLANS[name].mode)

    def call(length: int = steps) -> None:
        run = planned(bench, name, its, length)
        jax.block_until_ready(fit(run, its.create(jax.random.key(0), bench.image)))

    call(SHORT)
    return call
