"""A part of the benchmark of executions: one network under one method, masked against live blocks."""

import functools
import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import clocks, kernel_clock
from experiments.benchmarks.execution_nets import Net
from experiments.compiled.memory import needed
from sparsity import models
from sparsity.contract import Method, Signals
from sparsity.kernels.platforms import here
from sparsity.methods.magnitude import magnitude
from sparsity.methods.sequential_attention import sequential_attention
from sparsity.plan.phases import Plan, parse, phase
from sparsity.target import Target
from sparsity.train.agenda import Force, entered
from sparsity.train.execution import MODES, Execution, choices
from sparsity.train.facts import facts
from sparsity.train.forward import Model, linen
from sparsity.train.objectives import cross_entropy
from sparsity.train.optimizer import optimizer
from sparsity.train.run import Run
from sparsity.train.step import Programs, programs
from sparsity.units.blocks import Rule, blocks


class Case(NamedTuple):
    """A method, and the phase that its steps are timed in: the first of a plan."""

    method: Callable[..., Method]
    plan: Plan


CASES = {
    "magnitude, dead weights zeroed": Case(magnitude, phase("finetune", "100%", dead="zeroed")),
    "magnitude, dead weights kept": Case(
        magnitude, phase("sparse", "50%") + phase("dense", "25%") + phase("finetune", "25%")
    ),
    "attention, last phase": Case(sequential_attention, phase("finetune", "100%")),
}


class How(NamedTuple):
    """rounds: times that each program is timed. steps: of each time, the last of which is waited for.

    clock: a field of `clocks.Seconds`.
    """

    rounds: int
    steps: int = 1
    clock: str = "wall"


class Bench(NamedTuple):
    """A network and a case, ready to make programs of: shapes are those of its trained tree and the rest."""

    net: Net
    case: Case
    model: Model
    shapes: tuple[Any, Any]
    target: Target
    method: Method

    @property
    def plan(self) -> Plan:
        return parse(self.case.plan, steps=1000, steps_per_epoch=100)


class Stepper(NamedTuple):
    """A program at work. run: takes so many steps and waits for the last. needed: bytes, by `memory`.

    layers: those that are multiplied by live blocks, each with the reason.
    """

    run: Callable[[int], None]
    needed: Callable[[], dict[str, int]]
    layers: dict[str, str]


def measure(net: Net, case: Case, how: How) -> dict[str, Any]:
    """Milliseconds of each program's step, the gains over the masked one, its bytes, and what runs where.

    On an NVIDIA GPU also its kernels: how many there are in a step, and what they take together.
    """
    bench = bench_of(net, case)
    by_mode = {mode: programs_of(bench, mode, jax.default_backend()) for mode in MODES}
    batch = jax.device_put(batch_of(net))
    names = {name: by_mode[name.split()[0]] for name in ("masked again", *MODES)}
    at_work = {name: _stepper(bench, made, batch) for name, made in names.items()}
    times = _milliseconds(at_work, how)
    alone = {mode: at_work[mode] for mode in MODES}
    return {
        "ms": times,
        "gains": {name: times["masked"] / ms for name, ms in times.items() if name != "masked"},
        "bytes": {mode: one.needed()["together"] for mode, one in alone.items()},
        "kernels": _kernels(alone, how.steps) if here() == "cuda" else {},
        "layers": {mode: one.layers for mode, one in alone.items() if mode != "masked"},
    }


def bench_of(net: Net, case: Case) -> Bench:
    """The bench of a network and a case; nothing is computed."""
    model = linen(models.build(net.name, classes=10, **net.settings))
    shapes = jax.eval_shape(model.init, jax.random.key(0), _one_of(net))
    rule = Rule("*", (net.block,) * 2)
    target = Target.of(blocks(shapes[0], [rule], density=net.density, at_least=16))
    return Bench(net, case, model, shapes, target, case.method(target.partition))


def programs_of(bench: Bench, mode: str, platform: str) -> Programs:
    """Those of an execution, as it is chosen for a platform."""
    known = facts(bench.method, bench.target.partition, bench.shapes[0])
    sites = bench.model.sites(*bench.shapes, _one_of(bench.net))
    run_by = Execution(mode, sites, bench.net.batch, platform=platform, facts=known)
    draw = lambda source, step, key: source
    partition, fit = bench.target.partition, cross_entropy()
    return programs(bench.model, bench.method, partition, mover(), draw, fit, run_by)


def mover() -> Any:
    """The optimiser of every step."""
    settings = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
    return optimizer(name="sgd", steps=1000, **settings)


def force_of(bench: Bench, made: Programs) -> Force:
    """What is in force in the phase that is timed."""
    return entered(Run(made, bench.plan, bench.target, lambda step: None, lambda s, c: {}), 0)


def begun(bench: Bench, made: Programs, now: Force) -> Any:
    """The state as the phase's steps take it."""
    state = made.create(jax.random.key(0), jnp.zeros((1, *bench.net.image)))
    state, _ = made.tick(state, now.context, Signals(), dead=now.phase.dead)
    return made.engage(state, now.context, ways=now.ways) if now.ways.layers else state


def batch_of(net: Net) -> dict[str, Any]:
    """Noise, as no figure depends on what images show."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((net.batch, *net.image), np.float32)
    return {"image": images, "label": rng.integers(0, 10, net.batch).astype(np.int32)}


def _one_of(net: Net) -> jax.ShapeDtypeStruct:
    """A batch of one, as a shape."""
    return jax.ShapeDtypeStruct((1, *net.image), jnp.float32)


def _stepper(bench: Bench, made: Programs, batch: dict[str, jax.Array]) -> Stepper:
    now = force_of(bench, made)
    held = begun(bench, made, now)
    static = {"frozen": now.phase.frozen, "dead": now.phase.dead}

    def run(steps: int) -> None:
        nonlocal held
        for _ in range(steps):
            held = made.train(held, batch, now.context, now.span, **static)
        jax.block_until_ready(held)

    def bytes_() -> dict[str, int]:
        return needed(made.train.lower(held, batch, now.context, now.span, **static).compile())

    found = choices(made.execution, bench.target, bench.plan, 0)
    return Stepper(run, bytes_, {name: choice.why for name, choice in found.items() if choice.way})


def _milliseconds(at_work: Mapping[str, Stepper], how: How) -> dict[str, float]:
    """Of a step of each program, the median of the rounds."""
    arms = {name: functools.partial(one.run, how.steps) for name, one in at_work.items()}
    samples = clocks.interleaved(clocks.warm(arms), how.rounds, seed=0)
    median = lambda found: statistics.median(getattr(seconds, how.clock) for seconds in found)
    return {name: 1000 * median(found) / how.steps for name, found in samples.items()}


def _kernels(at_work: Mapping[str, Stepper], steps: int) -> dict[str, dict[str, float]]:
    """By program: `count` of a step's kernels, and their `ms` together."""
    busy = {
        mode: kernel_clock.busy(functools.partial(one.run, steps)) for mode, one in at_work.items()
    }
    return {
        mode: {"count": round(len(times) / steps), "ms": sum(times) / steps}
        for mode, times in busy.items()
    }
