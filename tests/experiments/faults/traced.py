"""Runs `experiments.train` and tells, over a pipe, which window of the run it is in.

    python tests/experiments/faults/traced.py NUMBER_OF_THE_PIPE --config=... --workdir=...

Each line is "nanoseconds enter WINDOW" or "nanoseconds leave WINDOW". The functions that are told of are
the run's own, and do what they always do. Windows lie in one another: the run is in the innermost.
"""

import functools
import os
import runpy
import sys
import time
from collections.abc import Callable
from typing import Any

import jax

from experiments.running import evaluate, launch
from sparsity.train import checkpoint, loop

# JAX tells of the end of each part: what follows the lowering is the compilation, or its reading.
LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
COMPILED = "/jax/core/compile/backend_compile_duration"


def tell(what: str, window: str) -> None:
    """One line, written at once."""
    os.write(PIPE, f"{time.monotonic_ns()} {what} {window}\n".encode())


def told(window: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with a line before it and one behind."""

    @functools.wraps(function)
    def telling(*args, **kwargs):
        tell("enter", window)
        try:
            return function(*args, **kwargs)
        finally:
            tell("leave", window)

    return telling


def evaluation_of(make: Callable[..., Any]) -> Callable[..., Any]:
    """What makes an evaluation, making one that tells."""
    return lambda *args: told("evaluation", make(*args))


def until_the_end(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, and all that comes behind it, as the run's ending."""

    def telling(*args):
        tell("enter", "ending")
        return function(*args)

    return telling


def compiling(event: str, seconds: float, **named: Any) -> None:
    """Listens to JAX."""
    del seconds, named
    if event in (LOWERED, COMPILED):
        tell("enter" if event == LOWERED else "leave", "compiling")


if __name__ == "__main__":
    PIPE = int(sys.argv.pop(1))
    jax.monitoring.register_event_duration_secs_listener(compiling)
    checkpoint.save = told("save", checkpoint.save)
    checkpoint.restore = told("restoring", checkpoint.restore)
    evaluate.evaluation = evaluation_of(evaluate.evaluation)
    evaluate.summary = until_the_end(evaluate.summary)
    loop._tick = told("tick", loop._tick)
    launch.fit = told("steps", launch.fit)
    launch.launch = told("set-up", launch.launch)
    runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
