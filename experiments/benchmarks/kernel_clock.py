"""How long programs take: on a CPU by its clocks, on a GPU by what its profiler says of each kernel.

A GPU works behind the program's back, and what takes it 50 microseconds takes the host as long to ask for; in a
training step, which is one program, nobody waits for that. So a program's time there is that of its kernels.
"""

import concurrent.futures
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax

from experiments.benchmarks import clocks
from sparsity.kernels import tuned
from sparsity.kernels.platforms import here

# Seconds: long beside a clock's tick and the stumbles of a machine. In caches that other programs have left, a
# ratio would change with the densities that it is measured beside.
TURN = 0.01

Program = tuple[Callable[..., Any], tuple[Any, ...]]


def milliseconds(programs: Mapping[str, Program], rounds: int) -> dict[str, list[float]]:
    """Each program's in every round, in which each of them runs once."""
    ready = compiled(programs)
    for program in ready.values():
        _waited(*program)
    clock = _by_kernels if here() == "cuda" else _by_the_clock
    return clock(ready, rounds)


def busy(run: Callable[[], object]) -> list[float]:
    """Milliseconds of each kernel that a GPU runs for a call, in order; nothing else may be at work there."""
    with tempfile.TemporaryDirectory() as folder:
        found = _profiled(run, folder)
    events = sorted(event for own in found.values() for event in own)
    return [nanoseconds / 1e6 for _, nanoseconds in events]


def compiled(programs: Mapping[str, Program]) -> dict[str, Program]:
    """The programs compiled, several at a time; what is not jax's is left as it is."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {
            name: pool.submit(_lowered(run, args, _module(number)))
            for number, (name, (run, args)) in enumerate(programs.items())
        }
    return {name: (job.result(), programs[name][1]) for name, job in jobs.items()}


def _lowered(run: Any, args: tuple[Any, ...], name: str) -> Callable[[], Callable[..., Any]]:
    """What compiles it."""
    if not hasattr(run, "lower"):
        return lambda: run

    def program(*args):
        return run(*args)

    program.__name__ = name
    return jax.jit(program).lower(*args).compile


def _module(number: int) -> str:
    """A name that the profiler shows."""
    return f"program_{number}"


def _by_the_clock(programs: Mapping[str, Program], rounds: int) -> dict[str, list[float]]:
    """On one core of a CPU the time in which this process ran."""
    arms = {name: functools.partial(_waited, *program) for name, program in programs.items()}
    # Other processes lengthen what a clock on the wall shows, and long programs more than short ones.
    clock = "processor" if here() == "cpu" and tuned.cores() == 1 else "wall"
    samples = clocks.interleaved(arms, rounds, seed=0, least=TURN)
    return {name: [1000 * getattr(s, clock) for s in found] for name, found in samples.items()}


def _waited(run: Callable[..., Any], args: tuple[Any, ...]) -> None:
    jax.block_until_ready(run(*args))


def _by_kernels(programs: Mapping[str, Program], rounds: int) -> dict[str, list[float]]:
    def every_round() -> None:
        for _ in range(rounds):
            jax.block_until_ready([run(*args) for run, args in programs.values()])

    with tempfile.TemporaryDirectory() as folder:
        kernels = _profiled(every_round, folder)
    return {name: _sums(kernels, _module(i), rounds) for i, name in enumerate(programs)}


def _profiled(run: Callable[[], object], folder: str) -> dict[str, list[tuple[float, float]]]:
    """The kernels of a call, by module."""
    with jax.profiler.trace(folder):
        run()
    (file,) = pathlib.Path(folder).rglob("*.xplane.pb")
    return _kernels(jax.profiler.ProfileData.from_file(str(file)))


def _kernels(profile: Any) -> dict[str, list[tuple[float, float]]]:
    """Module -> (start, duration) of its kernels, in nanoseconds and in order."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in (line for plane in profile.planes if "GPU" in plane.name for line in plane.lines):
        if line.name.startswith("Stream"):
            for event in line.events:
                module = str(dict(event.stats).get("hlo_module", ""))
                found.setdefault(module, []).append((event.start_ns, event.duration_ns))
    return {module: sorted(events) for module, events in found.items()}


def _sums(kernels: Mapping[str, Any], module: str, rounds: int) -> list[float]:
    """Milliseconds of a module's kernels in each round. Raises RuntimeError where the profiler missed some."""
    events = kernels.get(f"jit_{module}", [])
    each, over = divmod(len(events), rounds)
    if not each or over:
        raise RuntimeError(f"the profiler saw {len(events)} kernels of {module} in {rounds} rounds")
    sums = (sum(t for _, t in events[i * each : (i + 1) * each]) for i in range(rounds))
    return [nanoseconds / 1e6 for nanoseconds in sums]
