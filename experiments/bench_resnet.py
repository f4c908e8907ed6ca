"""ResNet-50's step against the same network in a plain training step, dense and masked, in one run.

    python -m experiments.bench_resnet [--rounds=15 --seconds=120 --side=64 --batch=8 --dtype=float32]

The plain step is written as the well-known ImageNet examples are: the gradient of a cross-entropy, SGD with momentum
and L2 on the matrices, a cosine rate, loss and accuracy of the batch; no method, no masks, no phases. Every
round times each program once, in turn; the medians are divided by the plain step's, once of the wall clock
and once of the processor time. A second plain program is the noise floor. After --seconds no round begins, once there
are three; what is compiled before that is kept where $JAX_COMPILATION_CACHE_DIR says.
"""

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import command
from experiments.surroundings import surroundings
from sparsity import models
from sparsity.contract import Signals
from sparsity.methods.dense import dense
from sparsity.methods.magnitude import magnitude
from sparsity.methods.sequential_attention import sequential_attention
from sparsity.plan.phases import Kind, Phase
from sparsity.target import Target, context_of
from sparsity.train.forward import linen
from sparsity.train.objectives import cross_entropy
from sparsity.train.optimizer import optimizer
from sparsity.train.step import Span, programs
from sparsity.units.blocks import Rule, blocks

CLASSES, STEPS, PEAK, MOMENTUM, DECAY = 1000, 1000, 0.8, 0.9, 1e-4
LEAST = 3  # rounds
Run = Callable[[], None]


class Plain(NamedTuple):
    """What a plain loop carries."""

    step: jax.Array
    params: Any
    velocity: Any
    stats: Any


def plain(module: Any, variables: Any, batch: Any) -> Run:
    """The step of the examples; `module` is called as module.apply(variables, images, train, mutable)."""

    def loss_of(params: Any, stats: Any) -> Any:
        logits, changed = module.apply(
            {"params": params, "batch_stats": stats},
            batch["image"],
            train=True,
            mutable=["batch_stats"],
        )
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["label"][:, None], axis=1)
        return -jnp.mean(chosen), (logits, changed["batch_stats"])

    @partial(jax.jit, donate_argnums=0)
    def step(state: Plain) -> tuple[Plain, dict[str, jax.Array]]:
        grad = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (logits, stats)), grads = grad(state.params, state.stats)
        rate = PEAK * 0.5 * (1 + jnp.cos(math.pi * state.step / STEPS))
        velocity = jax.tree.map(_moved, state.velocity, grads, state.params)
        params = jax.tree.map(lambda w, v: w - rate * v, state.params, velocity)
        right = jnp.mean(jnp.argmax(logits, -1) == batch["label"])
        return Plain(state.step + 1, params, velocity, stats), {"loss": loss, "accuracy": right}

    params = jax.tree.map(jnp.copy, variables["params"])
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = Plain(jnp.int32(0), params, zeros, jax.tree.map(jnp.copy, variables["batch_stats"]))

    def run() -> None:
        nonlocal state
        state, metrics = step(state)
        jax.block_until_ready((state, metrics))

    return run


def _moved(velocity: jax.Array, grad: jax.Array, w: jax.Array) -> jax.Array:
    decayed = grad + DECAY * w if w.ndim > 1 else grad
    return MOMENTUM * velocity + decayed


def ours(module: Any, make: Any, kind: Kind, batch: Any, dead: str = "kept") -> Run:
    """The project's step under a method, in a phase of a kind, 90% of 16x16 blocks pruned."""
    model, image = linen(module), jnp.zeros((1, *batch["image"].shape[1:]))
    shapes, _ = jax.eval_shape(model.init, jax.random.key(0), image)
    target = Target.of(blocks(shapes, [Rule("*", (16, 16))], density="0.1", at_least=100))
    method = make(target.partition)
    settings = {"learning_rate": PEAK, "momentum": MOMENTUM, "weight_decay": DECAY}
    tx = optimizer(name="sgd", steps=STEPS, **settings)
    draw = lambda source, step, key: source
    made = programs(model, method, target.partition, tx, draw, cross_entropy(0.0))
    context = context_of(target, Phase(kind, 1))
    span = jax.device_put(Span(np.int32(0), np.int32(STEPS), np.float32(1.0)))
    state = made.create(jax.random.key(0), image)
    if kind != Kind.DENSE:
        state, _ = made.tick(state, context, Signals(), dead=dead)

    def run() -> None:
        nonlocal state
        state = made.train(state, batch, context, span, frozen=(), dead=dead)
        jax.block_until_ready(state)

    return run


def measure(
    side: int, size: int, dtype: str, rounds: int, seconds: float
) -> list[tuple[str, float, float, float]]:
    """(what, milliseconds, wall ratio, processor ratio) per program; medians."""
    module = models.build("resnet50", classes=CLASSES, dtype=dtype)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, side, side, 3)).astype(np.float32)
    batch = jax.device_put({"image": images, "label": rng.integers(0, CLASSES, size)})
    batch["label"] = batch["label"].astype(jnp.int32)
    variables = jax.jit(module.init)(jax.random.key(0), images[:1])
    step = partial(ours, module, batch=batch)
    timed = {
        "plain step": plain(module, variables, batch),
        "plain step again": plain(module, variables, batch),
        "dense": step(make=dense, kind=Kind.DENSE),
        "masked": step(make=magnitude, kind=Kind.SPARSE),
        "masked, dead weights zeroed": step(make=magnitude, kind=Kind.SPARSE, dead="zeroed"),
        "attention, sparse phase": step(make=sequential_attention, kind=Kind.SPARSE),
    }
    for run in timed.values():
        run()
        run()
    taken = turns(timed, rounds, seconds)
    print(f"{len(taken)} rounds, load average {os.getloadavg()[0]:.1f}", flush=True)
    base = [statistics.median(round_["plain step"][i] for round_ in taken) for i in (0, 1)]
    found = []
    for name in timed:
        wall, busy = (statistics.median(round_[name][i] for round_ in taken) for i in (0, 1))
        found.append((name, 1000 * wall, wall / base[0], busy / base[1]))
    return found


def turns(
    timed: Mapping[str, Run], rounds: int, seconds: float
) -> list[dict[str, tuple[float, float]]]:
    """What `_timed` says of each program in each round: `rounds` of them, fewer where time runs out, three at least."""
    began, taken = time.monotonic(), []
    while len(taken) < rounds and (len(taken) < LEAST or time.monotonic() - began < seconds):
        taken.append({name: _timed(run) for name, run in timed.items()})
    return taken


def _timed(run: Run) -> tuple[float, float]:
    """Wall and processor seconds of a call."""
    wall, busy = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - busy


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    print(surroundings())
    side, size, dtype = SIDE.value, BATCH.value, DTYPE.value
    print(f"ResNet-50, {side}x{side}, batch {size}, {dtype}, blocks 16x16, density 10%")
    for name, ms, wall, busy in measure(side, size, dtype, ROUNDS.value, SECONDS.value):
        speed = 1000 * size / ms
        print(
            f"  {name:<30} {ms:9.1f} ms {speed:9.1f} images/s   {wall:6.3f} x the plain step, "
            f"{busy:6.3f} x its processor time"
        )


if __name__ == "__main__":
    ROUNDS = flags.DEFINE_integer(
        "rounds", 15, "Times that each program is timed.", lower_bound=LEAST
    )
    SECONDS = flags.DEFINE_float("seconds", 120.0, "After which no round begins.")
    SIDE = flags.DEFINE_integer("side", 64, "Of the images, in pixels.", lower_bound=32)
    BATCH = flags.DEFINE_integer("batch", 8, "Images in a batch.", lower_bound=1)
    DTYPE = flags.DEFINE_string("dtype", "float32", "float32 or bfloat16.")
    command.run(main, known=(ValueError,))
