"""The rows of one network: its steps, compilations, bytes and whole plans, each against its bound."""

from typing import NamedTuple

import jax

from experiments.benchmarks import arms, compiling, plans
from experiments.benchmarks.clocks import (
    Samples,
    Seconds,
    Spread,
    deciding,
    interleaved,
    spread,
    warm,
)
from experiments.benchmarks.networks import Bench, made
from experiments.benchmarks.rows import Row, exact, ratio
from sparsity.train.state import TrainState
from sparsity.units.partition import leaves

UPDATE, STATE, PLAN = 0.3, 0.1, 1.05


class Rounds(NamedTuple):
    """How often each is measured: steps and updates, compilations, whole plans."""

    steps: int = 20
    compilations: int = 2
    plans: int = 3


def measured(bench: Bench, name: str, rounds: Rounds, seed: int) -> list[Row]:
    """All rows of a network, which is called `name` in them."""
    rows = [*_steps(bench, name, rounds.steps, seed), *_peaks(bench, name)]
    rows += [*_compilations(bench, name, rounds.compilations, seed), *_states(bench, name)]
    return [*rows, *_plans(bench, name, rounds.plans, seed)]


def _steps(bench: Bench, name: str, rounds: int, seed: int) -> list[Row]:
    running = {arm: arms.running(bench, one) for arm, one in arms.ARMS.items()}
    samples = interleaved(warm(running), rounds, seed)
    milliseconds = _milliseconds(samples[arms.DENSE])
    rows = [Row(name, arms.DENSE, "ms", milliseconds)]
    return rows + [
        ratio(name, arm, samples, arm, arms.DENSE, _bound(bench, arm))
        for arm in list(samples)
        if arm != arms.DENSE
    ]


def _milliseconds(samples: list[Seconds]) -> Spread:
    return spread([1000 * getattr(one, deciding()) for one in samples])


def _bound(bench: Bench, arm: str) -> float | None:
    if arms.ARMS[arm].updates:
        return UPDATE if bench.net.masked else None
    return {"masked": bench.net.masked, "soft": bench.net.soft}.get(arm.split()[0])


def _compilations(bench: Bench, name: str, rounds: int, seed: int) -> list[Row]:
    """Each program under 1.3 x the dense step's time + 0.5 s; a plan's set beside a dense run's."""
    one = compiling.single(bench, rounds, seed)
    whole = compiling.sets(bench, max(1, rounds - 1), seed)
    return [
        *_against(name, "compiling the ", one, arms.DENSE),
        *_against(name, "compiling all of ", whole, plans.DENSE_RUN),
    ]


def _against(name: str, words: str, samples: Samples, base: str) -> list[Row]:
    clock = deciding()
    medians = {k: spread([getattr(s, clock) for s in found]) for k, found in samples.items()}
    walls = {k: spread([s.wall for s in found]).median for k, found in samples.items()}
    bound = 1.3 * medians[base].median + 0.5
    return [
        Row(name, words + k, "s", found, walls[k], None if k == base else bound)
        for k, found in medians.items()
    ]


def _peaks(bench: Bench, name: str) -> list[Row]:
    found = compiling.peaks(bench)
    return [
        exact(name, f"peak memory, {arm}", f"x {arms.DENSE}", size / found[arms.DENSE])
        for arm, size in found.items()
        if arm != arms.DENSE
    ]


def _states(bench: Bench, name: str) -> list[Row]:
    """What masks hold, and what a softmax over blocks adds: its logits with the optimiser's moments."""
    bare, masked, soft = (_fresh(bench, m) for m in ("dense", "magnitude", "sequential_attention"))
    weights = _bytes(bare.wrapped.params)
    held = {
        "mask state": _bytes(masked.wrapped.memory),
        "attention's logits, momentum": _bytes((soft.wrapped.gates, soft.opt)) - _bytes(bare.opt),
    }
    bound = STATE if bench.net.block == 32 else None
    return [
        exact(
            name,
            f"{what}, share of the parameters' bytes",
            "%",
            100 * size / weights,
            bound if what == "mask state" else None,
        )
        for what, size in held.items()
    ]


def _fresh(bench: Bench, method: str) -> TrainState:
    return made(bench, method).create(jax.random.key(0), bench.image)


def _bytes(tree: object) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves(tree).values())


def _plans(bench: Bench, name: str, rounds: int, seed: int) -> list[Row]:
    if not bench.net.steps:
        return []
    running = {plan: plans.going(bench, plan, bench.net.steps) for plan in plans.PLANS}
    samples = interleaved(running, rounds, seed)
    return [
        ratio(name, f"{bench.net.steps} steps of {plan}", samples, plan, plans.DENSE_RUN, PLAN)
        for plan in samples
        if plan != plans.DENSE_RUN
    ]
