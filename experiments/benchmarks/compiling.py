"""What compiling costs: single programs, and all those of a plan, beside the dense network's."""

import random
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from experiments.benchmarks.arms import ARMS, lowered, span, state_of
from experiments.benchmarks.clocks import Seconds, timed
from experiments.benchmarks.networks import Bench, context, made
from experiments.benchmarks.plans import PLANS, evaluated, planned
from sparsity.contract import Signals
from sparsity.plan.phases import Kind
from sparsity.train.loop import compilations

NAMES = ("dense step", "masked step", "soft step, masked")
FOLDER, LEAST = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
MASKED = [name for name, course in PLANS.items() if course.mode == "masked"]
UPDATES = ("mask update, magnitude", "mask update, attention")


def single(bench: Bench, rounds: int, seed: int) -> dict[str, list[Seconds]]:
    """Seconds to trace and compile each program anew, in turn, after a round that is not counted."""
    order, shuffled = [*NAMES, *UPDATES], random.Random(seed)
    found: dict[str, list[Seconds]] = {name: [] for name in order}
    for turn in range(rounds + 1):
        for name in order:
            seconds = _anew(bench, name)
            if turn:
                found[name].append(seconds)
        shuffled.shuffle(order)
    return found


def _anew(bench: Bench, name: str) -> Seconds:
    arm = ARMS[name]
    its = made(bench, arm.method)
    # A fresh state is enough: masks change no shape.
    state = its.create(jax.random.key(0), bench.image)
    return timed(lambda: lowered(bench, arm, its, state).compile())


def peaks(bench: Bench) -> dict[str, int]:
    """Peak bytes of each step by the compiler's account; empty where it gives none."""
    found = {}
    for name in (*NAMES, "masked step, dead weights zeroed"):
        its = made(bench, ARMS[name].method)
        state = state_of(bench, ARMS[name], its)
        account = lowered(bench, ARMS[name], its, state).compile().memory_analysis()
        if account is not None:
            found[name] = (
                account.argument_size_in_bytes
                + account.output_size_in_bytes
                + account.temp_size_in_bytes
                - account.alias_size_in_bytes
            )
    return found


def sets(bench: Bench, rounds: int, seed: int) -> dict[str, list[Seconds]]:
    """Seconds to compile all programs of each masked plan, with a fresh cache on disk as a launch keeps one."""
    order, shuffled = [*MASKED], random.Random(seed)
    found: dict[str, list[Seconds]] = {name: [] for name in order}
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name in order:
            found[name].append(_with_fresh_cache(bench, name))
    return found


def _with_fresh_cache(bench: Bench, name: str) -> Seconds:
    kept = {key: getattr(jax.config, key) for key in (FOLDER, LEAST)}
    with tempfile.TemporaryDirectory() as folder:
        try:
            _set({FOLDER: folder, LEAST: 0.1})
            return timed(lambda: _all(bench, name))
        finally:
            _set(kept)


def _set(settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        jax.config.update(key, value)
    # It looks at its settings once, when it is first used.
    compilation_cache.reset_cache()


def _all(bench: Bench, name: str) -> None:
    its = made(bench, PLANS[name].method)
    state = its.create(jax.random.key(0), bench.image)
    its.logged(state)
    state = its.create(jax.random.key(0), bench.image)
    for program in programs_of(bench, its, state, name):
        program.compile()


def programs_of(bench: Bench, its: Any, state: Any, name: str) -> Iterator[jax.stages.Lowered]:
    """Each program that the loop will ask for, traced."""
    for program, *key in compilations(planned(bench, name, its)):
        if program == "restart":
            yield its.restart.lower(state)
            continue
        on = context(bench, Kind(key[0]))
        if program == "train":
            yield its.train.lower(state, bench.batch, on, span(), frozen=key[1], dead=key[2])
        elif program == "tick":
            yield its.tick.lower(state, on, Signals(), zero_moments=key[1], dead=key[2])
        elif program == "evaluate":
            yield its.evaluate.lower(state, on, evaluated(bench))
        else:
            raise ValueError(f"no plan of this benchmark has a program {program!r}")
