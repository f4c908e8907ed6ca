"""Compiles the training steps of `bench_execution` for an H200 that is not here.

    python -m experiments.aot_execution [--nets=wide-64,vit-64] [--cases=1] [--modes=masked,sparse,auto]

Where the compilers of constraints-aot.txt are installed beside flax and optax. A line per step: the layers on live
blocks, the operations that the program runs (kernels, library calls, copies), those that are kernels of ours, what
these spill, and the bytes that a step holds at once. What is not here is chosen for by the model of the card, not by
its table. Ends with 1 where a kernel spills; a compiler that aborts takes the process with it.
"""

import argparse
import re
import sys
from typing import Any, NamedTuple

# First: it says to jax, before that is imported, where to compile.
from experiments.compiled.absent import heard, there

# isort: split
import jax
import jax.numpy as jnp

from experiments.benchmarks.execution_nets import GPU
from experiments.benchmarks.execution_parts import (
    CASES,
    Bench,
    bench_of,
    force_of,
    mover,
    programs_of,
)
from experiments.compiled.compilers import read
from experiments.compiled.memory import needed
from sparsity.train.execution import MODES
from sparsity.train.state import create
from sparsity.train.step import Programs

# Names of values, that nothing is run for.
NOTHING = ("parameter", "get-tuple-element", "tuple", "constant", "bitcast")
OPERATION = re.compile(r"^\s*(?:ROOT )?%?[\w.-]+ = .*? ([a-z][\w-]*)\(", re.MULTILINE)


class Step(NamedTuple):
    """What a compiled step is; spilled: bytes, 0 without kernels of ours."""

    layers: int
    operations: int
    kernels: int
    spilled: int
    bytes: int

    def __str__(self) -> str:
        return (
            f"{self.layers} layers on live blocks, {self.operations} operations, {self.kernels} of them our "
            f"kernels, {self.spilled} bytes spilled, {self.bytes / 2**20:,.0f} MiB"
        )


def compiled(bench: Bench, mode: str) -> Step:
    """The step of an execution. Raises NoCompiler where there is none, and what a compiler raises."""
    made = programs_of(bench, mode, "gpu")
    with heard() as text:
        found = _lowered(bench, made).compile()
        spilled = read(text()).spilled or 0
    program = found.as_text() or ""
    entry = program[program.index("\nENTRY") :]
    operations = [name for name in OPERATION.findall(entry) if name not in NOTHING]
    ours, layers = (
        entry.count('custom_call_target="mosaic_gpu'),
        len(force_of(bench, made).ways.layers),
    )
    return Step(layers, len(operations), ours, spilled, needed(found)["together"])


def _lowered(bench: Bench, made: Programs) -> jax.stages.Lowered:
    now, net = force_of(bench, made), bench.net
    state = jax.eval_shape(lambda: _fresh(bench))
    if now.ways.layers:
        state = jax.eval_shape(lambda s: made.engage(s, now.context, ways=now.ways), state)
    batch = {
        "image": jax.ShapeDtypeStruct((net.batch, *net.image), jnp.float32),
        "label": jax.ShapeDtypeStruct((net.batch,), jnp.int32),
    }
    args = there("h200", (state, batch, now.context, now.span))
    return made.train.lower(*args, frozen=now.phase.frozen, dead=now.phase.dead)


def _fresh(bench: Bench) -> Any:
    """A state of zeros: `Programs.create` may not be traced."""
    params, mutable = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), bench.shapes)
    return create(jax.random.key(0), bench.method, mover(), params, mutable)


def main() -> None:
    """The command line."""
    names = lambda text: text.split(",")
    parser = argparse.ArgumentParser(prog="experiments.aot_execution", allow_abbrev=False)
    parser.add_argument("--nets", type=names, default=list(GPU))
    parser.add_argument("--cases", type=int, choices=range(1, 1 + len(CASES)), default=1)
    parser.add_argument("--modes", type=names, default=list(MODES))
    given = parser.parse_args()
    spilled = 0
    for net in given.nets:
        for case in list(CASES)[: given.cases]:
            for mode in given.modes:
                step = compiled(bench_of(GPU[net], CASES[case]), mode)
                spilled += step.spilled
                print(f"{net}, {case}, {mode}: {step}", flush=True)
    sys.exit(bool(spilled))


if __name__ == "__main__":
    main()
