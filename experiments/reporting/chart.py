"""A plan as a picture made of characters: its sparsity over the steps, with the phases under it."""

from collections.abc import Sequence

from experiments.reporting import terminal
from sparsity.plan.phases import Plan, starts, walk

WIDTH, HEIGHT = 64, 6
SIGNS = {"dense": "·", "sparsify": "/", "sparse": "=", "finetune": "#"}


def chart(plan: Plan, sparsity: float, reached: int | None = None) -> str:
    """Lines of a parsed plan.

    sparsity: of blocks, where the plan asks for all of it. reached: the step to which a run has come.
    """
    total, edges = starts(plan)[-1], starts(plan)
    width = min(WIDTH, total)
    steps = [total * i // width for i in range(width)]
    kinds = [next(p.kind for p, end in zip(plan, edges[1:], strict=True) if s < end) for s in steps]
    names = [f"{100 * sparsity:.4g}%", *[""] * (HEIGHT - 2), "0%"]
    rows = terminal.area(shares(plan, steps), HEIGHT, 1.0)
    lines = [f"{name:>7} │{row}" for name, row in zip(names, rows, strict=True)]
    lines.append(f"{'':>7} └{''.join(SIGNS[kind] for kind in kinds)}")
    if reached is not None:
        lines.append(f"{'':>9}{'':>{min(width - 1, width * reached // total)}}▲ step {reached:,}")
    legend = ", ".join(f"{SIGNS[kind]} {kind}" for kind in dict.fromkeys(p.kind for p in plan))
    phases = [f"{p.kind} {p.length}" for p in plan]
    shown = phases if len(phases) <= 8 else [*phases[:4], f"({len(phases) - 7} more)", *phases[-3:]]
    return "\n".join([*lines, f"{'':>9}{legend}; {total:,} steps: {' + '.join(shown)}"])


def shares(plan: Plan, steps: Sequence[int]) -> list[float]:
    """The share of the target sparsity in force at each of the rising steps, in one walk."""
    found, ticks = [0.0] * len(steps), iter(walk(plan))
    tick, share = next(ticks, None), 0.0
    for i, step in enumerate(steps):
        while tick is not None and tick.step <= step:
            tick, share = next(ticks, None), float(tick.share)
        found[i] = share
    return found
