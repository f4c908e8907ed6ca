"""What block-sparse products gain over dense ones, by block and density, measured on this machine.

    python -m experiments.bench_kernels [--cores=1] [--shape=256,2048,2048] [--dtype=float32]
        [--blocks=16,32,64,128] [--densities=50,30,20,10,5,2,1] [--rounds=15] [--peers] [--out=docs/kernels]

Forward, dX, dW and the whole step (value and both gradients) of y = x W, x batch-major, against XLA's dense
product in the same rounds: each round times every program once, in turn, and the medians are divided. Two
masks: uniform over blocks, and unbalanced (columns of unlike live counts). A part is a block and a density;
parts that the file of results has already are not measured again, so that a call that was cut off goes on.
It needs jax, numpy and, for the peers, scipy: nothing else, so that it runs on a bare machine.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.processor import processor
from experiments.reporting.kernels import VERBS, name_of, page
from sparsity.kernels.layout import Layout, from_mask, mask_of, pack, unpack
from sparsity.kernels.ops import block_sparse_matmul
from sparsity.kernels.product import backend_of

Program = tuple[Callable[..., Any], tuple[Any, ...]]


class Task(NamedTuple):
    """A product to measure: (M, K, N), its dtype, and how often each program is timed."""

    shape: tuple[int, int, int]
    dtype: str
    rounds: int
    peers: bool


def measure(task: Task, block: int, percent: float) -> dict[str, Any]:
    """Milliseconds of each program, and ratios of dense to sparse, for one block and density."""
    programs = _dense(task) | _sparse(task, block, percent)
    if task.peers and jax.default_backend() == "cpu":
        programs |= _peers(task, block, percent)
    seconds = _timed(programs, task.rounds)
    times = {name: 1000 * statistics.median(found) for name, found in seconds.items()}
    ratios = {verb: times[f"dense {verb.split(',')[0]}"] / times[verb] for verb in VERBS}
    peers = {n: times["dense forward"] / ms for n, ms in times.items() if n.startswith("peer")}
    # Long programs lose more to a busy machine than short ones, so that its ratios flatter.
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {
        "block": block,
        "percent": percent,
        "load": load,
        "ms": times,
        "ratios": ratios | peers,
    }


def _timed(programs: Mapping[str, Program], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, (run, args) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(*args))
            if turn:  # the first compiles
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _arrays(task: Task) -> tuple[jax.Array, jax.Array, jax.Array]:
    m, k, n = task.shape
    rng = np.random.default_rng(0)
    x, w, dy = (jnp.asarray(rng.normal(size=s), task.dtype) for s in ((m, k), (k, n), (m, n)))
    return x, w, dy


def _dense(task: Task) -> dict[str, Program]:
    x, w, dy = _arrays(task)
    return {
        "dense forward": (jax.jit(lambda x, w: x @ w), (x, w)),
        "dense dX": (jax.jit(lambda dy, w: dy @ w.T), (dy, w)),
        "dense dW": (jax.jit(lambda x, dy: x.T @ dy), (x, dy)),
        "dense step": (jax.jit(_step(lambda x, w: x @ w)), (x, w, dy)),
    }


def _step(run: Callable[..., jax.Array]) -> Callable[..., Any]:
    """The value and the gradients of x and the weight, given that of the value."""

    def step(x, w, dy):
        y, back = jax.vjp(run, x, w)
        return y, back(dy)

    return step


def _sparse(task: Task, block: int, percent: float) -> dict[str, Program]:
    x, w, dy = _arrays(task)
    layout, other = (_layout(task, block, percent, unbalanced) for unbalanced in (False, True))
    packed = pack(w, layout)
    return {
        "forward": (jax.jit(block_sparse_matmul), (x, packed, layout)),
        "forward, unbalanced": (jax.jit(block_sparse_matmul), (x, pack(w, other), other)),
        "dX": (jax.jit(partial(_gradient, 0)), (x, packed, layout, dy)),
        "dW": (jax.jit(partial(_gradient, 1)), (x, packed, layout, dy)),
        "step": (jax.jit(_sparse_step), (x, packed, layout, dy)),
    }


def _sparse_step(x: jax.Array, packed: jax.Array, layout: Layout, dy: jax.Array) -> Any:
    return _step(lambda x, p: block_sparse_matmul(x, p, layout))(x, packed, dy)


def _gradient(which: int, *args: Any) -> jax.Array:
    """One gradient of the two alone: XLA drops the other, and the value."""
    return _sparse_step(*args)[1][which]


def _layout(task: Task, block: int, percent: float, unbalanced: bool) -> Layout:
    """The share of live blocks exactly (one at least), where random numbers are largest."""
    _, k, n = task.shape
    grid = -(-k // block), -(-n // block)
    rng = np.random.default_rng(1)
    scores = rng.random(grid) * (rng.random(grid[1]) if unbalanced else 1)
    live = max(1, int(scores.size * percent / 100))
    mask = (np.argsort(np.argsort(-scores, axis=None)) < live).reshape(grid)
    return from_mask(mask, (k, n), (block, block))


def _peers(task: Task, block: int, percent: float) -> dict[str, Program]:
    """scipy's BSR and jax's BCSR, which hold the transpose and multiply columns; float32 only."""
    import scipy.sparse
    from jax.experimental import sparse

    x, w, _ = _arrays(task._replace(dtype="float32"))
    layout = _layout(task, block, percent, unbalanced=False)
    held = np.asarray(unpack(pack(w, layout), layout)).T
    bsr = scipy.sparse.bsr_matrix(held, blocksize=(block, block))
    bcsr = sparse.BCSR.from_scipy_sparse(scipy.sparse.csr_matrix(held))
    columns = jnp.asarray(x.T)
    assert int(mask_of(layout).sum()) == bsr.indices.size
    return {
        "peer scipy BSR": (lambda a, b: a @ b, (bsr, np.asarray(columns))),
        "peer jax BCSR": (jax.jit(lambda a, b: a @ b), (bcsr, columns)),
    }


def surroundings(task: Task) -> dict[str, Any]:
    """What the figures belong to: they are never mixed with those of another machine or version."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform} {device.device_kind}",
        "processor": processor() if device.platform == "cpu" else "",
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "python": platform.python_version(),
        "jax": importlib.metadata.version("jax"),
        "jaxlib": importlib.metadata.version("jaxlib"),
        "shape": list(task.shape),
        "dtype": task.dtype,
    }


def run(task: Task, blocks: list[int], densities: list[float], out: pathlib.Path) -> None:
    """Measures every part that is missing and writes the results after each."""
    here = surroundings(task)
    file = out / f"{name_of(here)}.json"
    results: dict[str, Any] = {"surroundings": here, "command": "", "parts": []}
    if file.is_file() and (found := json.loads(file.read_text()))["surroundings"] == here:
        results = found
    results["command"] = "python -m experiments.bench_kernels " + " ".join(sys.argv[1:])
    done = {(part["block"], part["percent"]) for part in results["parts"]}
    out.mkdir(parents=True, exist_ok=True)
    print(here)
    for block, percent in ((b, d) for b in blocks for d in densities if (b, d) not in done):
        part = measure(task, block, percent)
        results["parts"].append(part)
        results["parts"].sort(key=lambda p: (p["block"], -p["percent"]))
        print(
            block,
            f"{percent:g}%",
            {key: round(r, 2) for key, r in part["ratios"].items()},
            flush=True,
        )
        file.write_text(json.dumps(results, indent=1) + "\n")
        file.with_suffix(".md").write_text(page(results))


def main(argv: list[str]) -> None:
    """The command line. argparse, because a bare machine has no absl."""
    numbers = lambda kind: lambda text: [kind(part) for part in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, help="use only so many cores of the CPU")
    parser.add_argument("--shape", type=numbers(int), default=[256, 2048, 2048], help="M,K,N")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--blocks", type=numbers(int), default=[16, 32, 64, 128])
    parser.add_argument("--densities", type=numbers(float), default=[50, 30, 20, 10, 5, 2, 1])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--peers", action="store_true", help="time scipy's BSR and jax's BCSR as well"
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/kernels"))
    asked = parser.parse_args(argv)
    if len(asked.shape) != 3 or min(asked.shape) < 1:
        parser.error(f"a shape is three positive integers M,K,N, not {asked.shape}")
    if not all(0 < d <= 100 for d in asked.densities) or asked.rounds < 3:
        parser.error("densities are per cent in (0, 100], and there are at least 3 rounds")
    if asked.cores:  # before XLA counts them
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.cores])
    task = Task(tuple(asked.shape), asked.dtype, asked.rounds, asked.peers)
    layout = from_mask(np.ones((1, 1), bool), (8, 8), (8, 8))
    if reason := backend_of(jax.default_backend(), layout, asked.dtype)[1]:
        print(f"this measures the dense fall-back: {reason}")
    run(task, asked.blocks, asked.densities, asked.out)


if __name__ == "__main__":
    main(sys.argv[1:])
