"""Plans as data: phases that add and repeat like tuples, and the ticks at which masks change.

`7 * (sparse + dense)` is a tuple of fourteen phases. A plan knows steps and shares of the target
sparsity, never units: the counts are made of the shares where the partition is known.
"""

import itertools
from collections.abc import Iterator, Sequence
from enum import StrEnum
from fractions import Fraction
from typing import Any, NamedTuple

from sparsity.named import unknown
from sparsity.plan.schedules import ramp as make_ramp


class Kind(StrEnum):
    """What a phase does to the masks: all ones, tightening, fixed, or fixed for good."""

    DENSE = "dense"
    SPARSIFY = "sparsify"
    SPARSE = "sparse"
    FINETUNE = "finetune"


RESETS = ("kept", "zeroed", "restarted")
DEAD = ("kept", "zeroed")


class Phase(NamedTuple):
    """One phase of a plan.

    kind:   see Kind.
    length: "10%" of the run, "8ep" (epochs) or "500it" (steps); after `parse` an int of steps.
    share:  (from, to) of the target sparsity: 0 is dense, 1 the target. None: (0, 0) in a dense phase,
            (0, 1) in a sparsify phase, (1, 1) else.
    ramp:   how a sparsify phase goes from one to the other: a name or {"name": ..., arguments}.
    every:  length between two mask updates of a sparsify phase.
    frozen: glob patterns of trained leaves that stand still, for example "gates/*".
    reset:  the optimiser's moments: "kept"; "zeroed" for the units that a tick prunes or regrows;
            "restarted" for everything on entering the phase. Schedules' counts always run on.
    dead:   whether pruned weights keep their value or are zeroed (and re-enter as 0).
    lr:     factor on the learning rate.
    regrow: whether a sparsify phase may revive units that it has pruned.
    """

    kind: Kind
    length: Any
    share: tuple[Any, Any] | None = None
    ramp: Any = "linear"
    every: Any = "1%"
    frozen: tuple[str, ...] = ()
    reset: str = "kept"
    dead: str = "kept"
    lr: float = 1.0
    regrow: bool = True

    @property
    def shares(self) -> tuple[Fraction, Fraction]:
        """`share` with its default, exact."""
        default = {Kind.DENSE: (0, 0), Kind.SPARSIFY: (0, 1)}.get(self.kind, (1, 1))
        low, high = self.share or default
        return Fraction(str(low)), Fraction(str(high))


Plan = tuple[Phase, ...]


class Tick(NamedTuple):
    """A moment, before the step `step`, at which the loop acts.

    event:    "enter" a phase, "inside" it, or its "last" (after its last step, with progress 1).
    index:    which phase.
    progress: through the phase, in [0, 1].
    share:    of the target sparsity.
    select:   whether the masks are chosen anew, and `regrow` whether dead units may come back.
    """

    step: int
    event: str
    index: int
    progress: Fraction
    share: Fraction
    select: bool
    regrow: bool


def phase(kind: str, length: Any, **settings: Any) -> Plan:
    """A plan of one phase, checked: see Phase for the settings. Plans add (+) and repeat (*)."""
    if kind not in list(Kind):
        raise unknown("phase", kind, list(Kind))
    if strange := set(settings) - set(Phase._fields):
        raise unknown("setting of a phase", min(strange), Phase._fields)
    made = Phase(Kind(kind), length, **settings)
    for setting, value, options in (("reset", made.reset, RESETS), ("dead", made.dead, DEAD)):
        if value not in options:
            raise unknown(f"value of {setting!r}", value, options)
    numeric = isinstance(made.lr, int | float) and not isinstance(made.lr, bool)
    patterns = isinstance(made.frozen, tuple | list)
    if not patterns or not (numeric and made.lr > 0) or made.regrow not in (True, False):
        raise ValueError(
            f"frozen is a tuple of patterns, lr a positive number and regrow true or false, not {made}"
        )
    try:
        low, high = made.shares
    except (TypeError, ValueError):
        raise ValueError(
            f"share is (from, to), two numbers in [0, 1], not {made.share!r}"
        ) from None
    if not (0 <= low <= 1 and 0 <= high <= 1) or (made.kind == Kind.DENSE and high):
        raise ValueError(f"shares {made.share!r} of a {kind} phase: each in [0, 1], 0 if dense")
    if made.kind in (Kind.SPARSE, Kind.FINETUNE) and low != high:
        raise ValueError(f"a {kind} phase keeps its masks; shares that move need a sparsify phase")
    make_ramp(made.ramp)
    return (made,)


def parse(
    plan: Sequence[Phase], *, steps: int | None, steps_per_epoch: int, sparse: bool = True
) -> Plan:
    """The plan with every length and interval in steps.

    steps: of the whole run; None where no length is a percentage. sparse: whether a sparse model was
    asked. Raises ValueError where the lengths don't add up to the run, a phase has no step, or the plan
    ends dense (or short of its target) though a sparse model was asked.
    """
    if not plan:
        raise ValueError("the plan has no phase")
    lengths = [_fraction_of_steps(p.length, steps, steps_per_epoch) for p in plan]
    total = sum(lengths)
    if steps is not None and total != steps:
        listed = " + ".join(f"{p.kind} {p.length}" for p in plan)
        share = f" ({float(100 * total / steps):g}% of the run)" if steps else ""
        raise ValueError(f"the phases add up to {float(total):g} of {steps} steps{share}: {listed}")
    edges = [int(edge) for edge in itertools.accumulate(lengths, initial=Fraction(0))]
    parsed = []
    for p, (start, stop) in zip(plan, itertools.pairwise(edges), strict=True):
        if stop == start:
            raise ValueError(f"the {p.kind} phase of {p.length!r} has no step in a run of {total}")
        every = max(1, int(_fraction_of_steps(p.every, int(total), steps_per_epoch)))
        parsed.append(p._replace(length=stop - start, every=every))
    if sparse and (plan[-1].kind == Kind.DENSE or plan[-1].shares[1] != 1):
        raise ValueError(
            f"the plan ends in a {plan[-1].kind} phase at {float(plan[-1].shares[1]):g} of the target "
            "sparsity, though a sparse model was asked; end it with a sparse or finetune phase"
        )
    return tuple(parsed)


def starts(plan: Plan) -> list[int]:
    """The first step of each phase, and the end of the last."""
    return list(itertools.accumulate((p.length for p in plan), initial=0))


def walk(plan: Plan, start: int = 0) -> Iterator[Tick]:
    """The ticks of a parsed plan from the step `start` on, in order.

    They are a function of the plan alone: the same start gives the same ticks, so a restart is exact.
    """
    before: Phase | None = None
    for index, (p, first) in enumerate(zip(plan, starts(plan), strict=False)):
        for tick in _ticks(index, p, first, before):
            if tick.step >= start:
                yield tick
        before = p


def share_at(plan: Plan, step: int) -> Fraction:
    """The share of the target sparsity in force while the step `step` runs."""
    share = Fraction(0)
    for tick in walk(plan):
        if tick.step > step:
            break
        share = tick.share
    return share


def _ticks(index: int, p: Phase, first: int, before: Phase | None) -> Iterator[Tick]:
    low, high = p.shares
    after_dense = before is None or before.kind == Kind.DENSE
    if p.kind != Kind.SPARSIFY:
        # Fixed masks are chosen on leaving a dense phase or where the share jumps; otherwise the last
        # tick of the phase before has left them as they must be.
        moved = after_dense or (before is not None and before.shares[1] != low)
        yield Tick(first, "enter", index, Fraction(0), low, p.kind != Kind.DENSE and moved, True)
        return
    ramp = make_ramp(p.ramp)
    share = lambda t: low + (high - low) * ramp(t)
    regrow = after_dense or p.regrow
    yield Tick(first, "enter", index, Fraction(0), share(Fraction(0)), True, regrow)
    for step in range(p.every, p.length, p.every):
        t = Fraction(step, p.length)
        yield Tick(first + step, "inside", index, t, share(t), True, p.regrow)
    # The ramp always lands: whatever the interval, the last update has the phase's end as its share.
    yield Tick(first + p.length, "last", index, Fraction(1), high, True, p.regrow)


def _fraction_of_steps(length: Any, steps: int | None, steps_per_epoch: int) -> Fraction:
    if isinstance(length, int) and not isinstance(length, bool):
        length = f"{length}it"
    text = str(length).strip()
    units = {"%": Fraction(steps or 0, 100), "ep": Fraction(steps_per_epoch), "it": Fraction(1)}
    unit = next((u for u in units if text.endswith(u)), None)
    if unit == "%" and steps is None:
        raise ValueError(f"the length {length!r} needs the number of steps of the run")
    try:
        value = Fraction(text.removesuffix(unit or "").strip()) if unit else Fraction(-1)
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if value < 0:
        raise ValueError(f"a length is like '10%', '8ep' or '500it', not {length!r}")
    return value * units[unit or "it"]
