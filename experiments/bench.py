"""What masks cost: steps, mask updates and compilation as ratios to the dense network, in one run.

    python -m experiments.bench [--rounds=30] [--nets=mlp,resnet20,vit]

Every round times each program once, in turn, so that a drift of the machine meets all of them; the medians
over the rounds are divided by the dense step's. A second dense program is the noise floor.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import command
from experiments.surroundings import surroundings
from sparsity import models
from sparsity.contract import Context, Method, Signals
from sparsity.methods.dense import dense
from sparsity.methods.magnitude import magnitude
from sparsity.methods.sequential_attention import sequential_attention
from sparsity.plan.phases import Kind, Phase
from sparsity.target import Target, context_of
from sparsity.train.forward import Model, linen
from sparsity.train.objectives import cross_entropy
from sparsity.train.optimizer import optimizer
from sparsity.train.step import Programs, Span, programs
from sparsity.units.blocks import Rule, blocks
from sparsity.units.partition import leaves


class Net(NamedTuple):
    """A network to measure on: its name in the registry, settings, images and batch."""

    name: str
    settings: dict[str, Any]
    image: tuple[int, int, int]
    batch: int
    block: int


NETS = {
    "mlp": Net("mlp", {"widths": (1024, 1024)}, (28, 28, 1), 512, 32),
    "resnet20": Net("resnet20", {}, (32, 32, 3), 64, 8),
    "vit": Net("vit", {}, (32, 32, 3), 32, 16),
}


class Timed(NamedTuple):
    """A program under the clock: `run` changes its state in place and waits for the device."""

    run: Callable[[], None]
    compile_seconds: float


def measure(net: Net, rounds: int) -> list[tuple[str, float, float]]:
    """(what, median over the dense step's, seconds to compile) per program."""
    model = linen(models.build(net.name, classes=10, **net.settings))
    image = jnp.zeros((1, *net.image))
    shapes, _ = jax.eval_shape(model.init, jax.random.key(0), image)
    layers = blocks(shapes, [Rule("*", (net.block, net.block))], density="0.1", at_least=16)
    target = Target.of(layers)
    make = partial(_programs, model, target)
    masked, soft = make(magnitude(target.partition)), make(sequential_attention(target.partition))
    bare = dense(target.partition)
    timed = {
        "dense step": _stepper(make(bare), target, net, Kind.DENSE, image),
        "dense step again": _stepper(make(bare), target, net, Kind.DENSE, image),
        "masked step": _stepper(masked, target, net, Kind.SPARSE, image),
        "masked step, dead weights zeroed": _stepper(
            masked, target, net, Kind.SPARSE, image, "zeroed"
        ),
        "attention, dense phase": _stepper(soft, target, net, Kind.DENSE, image),
        "attention, sparse phase": _stepper(soft, target, net, Kind.SPARSE, image),
        "mask update, magnitude": _ticker(masked, target, image),
        "mask update, attention": _ticker(soft, target, image),
    }
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, one in timed.items():
            start = time.perf_counter()
            one.run()
            seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["dense step"])
    print(f"  {_sizes(shapes, target)}; dense step {1000 * base:.2f} ms")
    return [
        (name, statistics.median(seconds[name]) / base, timed[name].compile_seconds)
        for name in timed
    ]


def _programs(model: Model, target: Target, method: Method) -> Programs:
    tx = optimizer(name="sgd", learning_rate=0.1, steps=1000, momentum=0.9, weight_decay=1e-4)
    draw = lambda source, step, key: source
    return programs(model, method, target.partition, tx, draw, cross_entropy())


def _context(target: Target, kind: Kind) -> Context:
    return context_of(target, Phase(kind, 1))


def _stepper(
    made: Programs, target: Target, net: Net, kind: Kind, image: jax.Array, dead: str = "kept"
) -> Timed:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(net.batch, *net.image)).astype(np.float32)
    labels = rng.integers(0, 10, net.batch).astype(np.int32)
    batch = jax.device_put({"image": images, "label": labels})
    context = _context(target, kind)
    span = jax.device_put(Span(np.int32(0), np.int32(1000), np.float32(1.0)))
    state = made.create(jax.random.key(0), image)
    if kind != Kind.DENSE:
        state, _ = made.tick(state, context, Signals(), dead=dead)

    def run() -> None:
        nonlocal state
        state = made.train(state, batch, context, span, frozen=(), dead=dead)
        jax.block_until_ready(state)

    return Timed(run, _first(run))


def _ticker(made: Programs, target: Target, image: jax.Array) -> Timed:
    context = _context(target, Kind.SPARSIFY)
    state = made.create(jax.random.key(0), image)

    def run() -> None:
        nonlocal state
        state, report = made.tick(state, context, Signals(), zero_moments=False, dead="kept")
        jax.block_until_ready((state, report))

    return Timed(run, _first(run))


def _first(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _sizes(shapes: Any, target: Target) -> str:
    weights = sum(leaf.size for leaf in leaves(shapes).values())
    units = sum(group.size * group.indices for group in target.partition.values())
    share = units / (4 * weights)
    return f"{weights:,} parameters, masks of {units:,} bytes ({share:.3%} of the parameters')"


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    for name in NAMES.value:
        if name not in NETS:
            raise SystemExit(f"no net is called {name!r}; there are: {', '.join(NETS)}")
    print(surroundings())
    for name in NAMES.value:
        net = NETS[name]
        print(f"{name}, batch {net.batch}, blocks {net.block}x{net.block}, density 10%")
        for what, ratio, compiling in measure(net, ROUNDS.value):
            print(f"  {what:<34} {ratio:6.3f} x the dense step   first call {compiling:5.2f} s")


if __name__ == "__main__":
    ROUNDS = flags.DEFINE_integer("rounds", 30, "Times that each program is timed.", lower_bound=3)
    NAMES = flags.DEFINE_list("nets", ["mlp"], f"Of {', '.join(NETS)}.")
    command.run(main)
