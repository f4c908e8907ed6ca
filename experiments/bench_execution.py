"""Whole training steps on live blocks against masked ones, by network and storage, in one run.

    python -m experiments.bench_execution [--rounds=20] [--nets=fashion,wide,vit,resnet20] [--clock=wall]
        [--out=docs/kernels]

Each round times one step of every program in turn, so that a drift of the machine meets all of them; the
medians of the masked step over the others' are the gains. The masked program is timed a second time, as the
noise floor. Where others use the machine too, take one core (taskset -c 0) and --clock=processor. Parts
that the file of results has already, from this machine and these versions, are not measured again, so that
a call that was cut off goes on.
"""

import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import command
from experiments.reporting.training import page
from experiments.surroundings import surroundings
from sparsity import models
from sparsity.contract import Method, Signals
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


class Net(NamedTuple):
    """A network to measure on: its name in the registry, settings, images, batch, block and density."""

    name: str
    settings: dict[str, Any]
    image: tuple[int, int, int]
    batch: int
    block: int
    density: str = "0.1"


HEADS = {"heads": (4,) * 4, "head_width": 64, "mlp": (2048,) * 4}
NETS = {
    "fashion": Net("mlp", {"widths": (256, 256)}, (28, 28, 1), 128, 16),
    "wide": Net("mlp", {"widths": (2048, 2048, 2048)}, (28, 28, 1), 256, 32),
    "vit": Net("vit", {"width": 256, **HEADS}, (32, 32, 3), 16, 32),
    "resnet20": Net("resnet20", {}, (32, 32, 3), 64, 8),
}


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


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


class Timed(NamedTuple):
    """A program under the clock: `run` takes a step and waits for it."""

    run: Callable[[], None]
    layers: dict[str, str]


def measure(net: Net, case: Case, rounds: int, clock: str = "wall") -> dict[str, Any]:
    """Milliseconds of each program's step, the gains over the masked one, and what runs where."""
    model = linen(models.build(net.name, classes=10, **net.settings))
    image = jnp.zeros((1, *net.image))
    shapes, mutable = jax.eval_shape(model.init, jax.random.key(0), image)
    layers = blocks(shapes, [Rule("*", (net.block,) * 2)], density=net.density, at_least=16)
    target = Target.of(layers)
    method = case.method(target.partition)
    sites = model.sites(shapes, mutable, image)
    known = facts(method, target.partition, shapes)
    platform = jax.default_backend()

    def made(mode: str) -> Programs:
        run_by = Execution(mode, sites, net.batch, platform=platform, facts=known)
        return _programs(model, target, method, run_by)

    by_mode = {mode: made(mode) for mode in MODES}
    timed = {
        name: _stepper(by_mode[name.split()[0]], target, net, case, image)
        for name in ("masked again", *MODES)
    }
    times = {
        name: 1000 * statistics.median(found)
        for name, found in _seconds(timed, rounds, CLOCKS[clock]).items()
    }
    gains = {name: times["masked"] / ms for name, ms in times.items() if name != "masked"}
    return {"ms": times, "gains": gains, "layers": {m: timed[m].layers for m in MODES[1:]}}


def _seconds(
    timed: dict[str, Timed], rounds: int, now: Callable[[], float]
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(rounds + 1):
        for name, one in timed.items():
            start = now()
            one.run()
            if turn:  # the first compiles
                seconds[name].append(now() - start)
    return seconds


def _programs(model: Model, target: Target, method: Method, run_by: Execution) -> Programs:
    tx = optimizer(name="sgd", learning_rate=0.01, steps=1000, momentum=0.9, weight_decay=1e-4)
    draw = lambda source, step, key: source
    return programs(model, method, target.partition, tx, draw, cross_entropy(), run_by)


def _stepper(made: Programs, target: Target, net: Net, case: Case, image: jax.Array) -> Timed:
    plan = parse(case.plan, steps=1000, steps_per_epoch=100)
    run = Run(made, plan, target, lambda step: None, lambda state, context: {})
    now, batch = entered(run, 0), _batch(net)
    held = _begun(made, now, image)

    def step() -> None:
        nonlocal held
        held = made.train(
            held, batch, now.context, now.span, frozen=now.phase.frozen, dead=now.phase.dead
        )
        jax.block_until_ready(held)

    found = choices(made.execution, target, plan, 0)
    return Timed(step, {name: choice.why for name, choice in found.items() if choice.way})


def _begun(made: Programs, now: Force, image: jax.Array) -> Any:
    """The state as the phase's steps take it."""
    state = made.create(jax.random.key(0), image)
    state, _ = made.tick(state, now.context, Signals(), dead=now.phase.dead)
    return made.engage(state, now.context, ways=now.ways) if now.ways.layers else state


def _batch(net: Net) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(net.batch, *net.image)).astype(np.float32)
    labels = rng.integers(0, 10, net.batch).astype(np.int32)
    return jax.device_put({"image": images, "label": labels})


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    for name in NAMES.value:
        if name not in NETS:
            raise SystemExit(f"no net is called {name!r}; there are: {', '.join(NETS)}")
    out = pathlib.Path(OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    results = _begun_results(out)
    done = {(part["net"], part["case"]) for part in results["parts"]}
    asked = [(name, case) for name in NAMES.value for case in CASES]
    for name, case in (pair for pair in asked if pair not in done):
        part = measure(NETS[name], CASES[case], ROUNDS.value, CLOCK.value)
        given = NETS[name]._asdict() | {
            "net": name,
            "case": case,
            "rounds": ROUNDS.value,
            "clock": CLOCK.value,
        }
        results["parts"].append({**given, **part})
        print(name, case, {key: round(gain, 2) for key, gain in part["gains"].items()}, flush=True)
        (out / "training.json").write_text(json.dumps(results, indent=1) + "\n")
        (out / "training.md").write_text(page(results))


def _begun_results(out: pathlib.Path) -> dict[str, Any]:
    """What an earlier call has left here, where it belongs to this machine; else nothing yet."""
    here, file = surroundings(), out / "training.json"
    command = " ".join(["python -m experiments.bench_execution", *sys.argv[1:]])
    if file.is_file() and (found := json.loads(file.read_text()))["surroundings"] == here:
        return {**found, "command": command}
    return {"command": command, "surroundings": here, "parts": []}


if __name__ == "__main__":
    ROUNDS = flags.DEFINE_integer("rounds", 20, "Times that each program is timed.", lower_bound=3)
    NAMES = flags.DEFINE_list("nets", list(NETS), f"Of {', '.join(NETS)}.")
    CLOCK = flags.DEFINE_enum("clock", "wall", [*CLOCKS], "Of the machine, or of this process.")
    OUT = flags.DEFINE_string("out", "docs/kernels", "Folder of the results.")
    command.run(main)
