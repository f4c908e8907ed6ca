"""A run's surroundings, as functions, and the places where it may stand."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sparsity.contract import Context
from sparsity.plan.phases import Plan
from sparsity.target import Target
from sparsity.train.descent import Held
from sparsity.train.state import TrainState
from sparsity.train.step import Programs

Record = dict[str, Any]


class Every(NamedTuple):
    """Steps between logged means, evaluations and saves; 0 is never (but at the end)."""

    log: int = 100
    evaluate: int = 0
    save: int = 0


class Place(NamedTuple):
    """Where a run stands: before the step `step`, with the first `acts` of what is due there done."""

    step: int
    acts: int = 0


class Run(NamedTuple):
    """A run's surroundings, as functions.

    source:   (step, batches=1) -> what the programs draw the batches of that many steps from (device
              arrays).
    evaluate: (state, context) -> {"loss": ..., "accuracy": ...}.
    emit:     takes each record of the metrics.
    save:     takes the place and its state.
    watch:    takes the place and its state, engaged or not, before each act and each step; may raise to end
              the run there.
    settle:   batches that recompute the batch statistics after a mask change; 0 leaves them.
    """

    programs: Programs
    plan: Plan
    target: Target
    source: Callable[..., Any]
    evaluate: Callable[[TrainState, Context], Record]
    emit: Callable[[Record], None] = lambda record: None
    save: Callable[[Place, TrainState], None] = lambda place, state: None
    watch: Callable[[Place, Held], None] = lambda place, state: None
    every: Every = Every()
    settle: int = 0
