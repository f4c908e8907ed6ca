"""The learning rate as a function of the step: what the optimiser follows, logs and plots."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import optax

from sparsity.named import choose

Rate = Callable[[Any], Any]
Pairs = Sequence[tuple[float, float]]


def schedule(
    *,
    learning_rate: float,
    steps: int,
    schedule: str | Pairs = "cosine",
    warmup: int = 0,
    final: float = 0.0,
) -> Rate:
    """step (int, or traced scalar) -> learning rate (scalar); constant after `steps`.

    learning_rate: the peak, positive.
    steps:         length of the run; the rate at `steps` is `final`.
    schedule:      "constant", "cosine", "linear", "exponential", or pairs (progress, factor): at each
                   progress in (0, 1) of the run the rate is multiplied by the factor, once and for all.
    warmup:        steps of linear warm-up before the peak; step t of it has (t + 1) / (warmup + 1) of
                   the peak, so that no step is lost at rate 0 and none repeats the peak.
    final:         the rate at the end; "constant" and pairs have no use for it.

    Raises ValueError for an unknown schedule or numbers that make no schedule.
    """
    steps, warmup = operator.index(steps), operator.index(warmup)
    if not learning_rate > 0:
        raise ValueError(f"learning_rate={learning_rate!r}: expected a positive number")
    if not 0 <= warmup < steps:
        raise ValueError(
            f"warmup={warmup} of steps={steps}: expected 0 <= warmup < steps, both in steps"
        )
    if final < 0:
        raise ValueError(f"final={final!r}: expected a learning rate of 0 or more")
    decay = _decay(learning_rate, steps, schedule, warmup, final)
    if not warmup:
        return decay
    rise = optax.linear_schedule(learning_rate / (warmup + 1), learning_rate, warmup)
    return optax.join_schedules([rise, decay], [warmup])


def _decay(peak: float, steps: int, shape: str | Pairs, warmup: int, final: float) -> Rate:
    if not isinstance(shape, str):
        return _piecewise(peak, steps, shape, warmup)
    return choose("schedule", shape, SHAPES)(peak, steps - warmup, final)


def _piecewise(peak: float, steps: int, pairs: Pairs, warmup: int) -> Rate:
    at = {}
    for progress, factor in pairs:
        if not 0 < progress < 1 or not factor > 0 or round(progress * steps) in at:
            raise ValueError(
                f"schedule={pairs!r}: expected pairs (progress, factor) with 0 < progress < 1, "
                "each at a step of its own, and factor > 0"
            )
        at[round(progress * steps)] = factor
    if at and min(at) <= warmup:
        raise ValueError(f"schedule={pairs!r}: the rate drops at step {min(at)}, in the warm-up")
    # join_schedules counts from the end of the warm-up, the pairs from the start of the run.
    return optax.piecewise_constant_schedule(peak, {step - warmup: f for step, f in at.items()})


def _exponential(peak: float, span: int, final: float) -> Rate:
    if not final > 0:
        raise ValueError(
            f"final={final!r}: an exponential schedule never reaches 0, give final > 0"
        )
    return optax.exponential_decay(peak, span, final / peak, end_value=final)


SHAPES: dict[str, Callable[[float, int, float], Rate]] = {
    "constant": lambda peak, span, final: optax.constant_schedule(peak),
    "cosine": lambda peak, span, final: optax.cosine_decay_schedule(peak, span, final / peak),
    "linear": lambda peak, span, final: optax.linear_schedule(peak, final, span),
    "exponential": _exponential,
}
