"""The way to the first step: imports, and the command beside a bare script of the same network."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.benchmarks.clocks import deciding, medians, timed
from experiments.benchmarks.rows import Figure

ROOT = Path(__file__).parents[2]
ARGUMENT = "sequential_attention"
# The dense network of configs/digits.py with as little around it as JAX allows.
BARE = """
import jax, jax.numpy as jnp, numpy as np, optax
from flax import linen as nn
from sklearn.datasets import load_digits
if CACHE:
    jax.config.update("jax_compilation_cache_dir", CACHE)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (256, 256):
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(10)(x)

found = load_digits()
images = jnp.asarray(found.images.reshape(-1, 64) / 16, jnp.float32)
labels, net = jnp.asarray(found.target), Net()
params = jax.jit(net.init)(jax.random.key(0), images[:1])
tx = optax.chain(
    optax.add_decayed_weights(1e-4), optax.sgd(optax.cosine_decay_schedule(0.1, 1000), 0.9)
)
opt = tx.init(params)

@jax.jit
def step(params, opt, rows):
    def loss(params):
        logits = net.apply(params, images[rows])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()
    updates, opt = tx.update(jax.grad(loss)(params), opt, params)
    return optax.apply_updates(params, updates), opt

jax.block_until_ready(step(params, opt, np.arange(128)))
print("first step", flush=True)
"""


def imports(rounds: int) -> list[Figure]:
    """The library's import beside jax's own."""
    names = ("jax", "sparsity", "experiments.train")
    found = medians(rounds, {name: lambda n=name: _process(f"import {n}") for name in names})
    return [
        Figure(f"import {name}", found[name], "s", f"{found[name] / found['jax']:.2f} x import jax")
        for name in names
    ]


def first_step(rounds: int) -> list[Figure]:
    """From the command to the end of the first step, beside a bare script of the same network."""
    return _first_step(rounds, "cold", dict.fromkeys(_NAMES, ""))


def first_step_cached(rounds: int) -> list[Figure]:
    """The same where a launch before it has left its compiled programs on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        kept = {name: f"{folder}/{name}" for name in _NAMES}
        for name, cache in kept.items():
            _run(name, cache)
        return _first_step(rounds, "with the cache", kept)


_NAMES = ("bare", "dense", ARGUMENT)


def _first_step(rounds: int, state: str, caches: Mapping[str, str]) -> list[Figure]:
    found = medians(rounds, {n: lambda n=n, c=c: _run(n, c) for n, c in caches.items()})
    return [
        Figure(
            f"to the first step: {name}, {state}",
            seconds,
            "s",
            f"{seconds / found['bare']:.2f} x the bare script",
        )
        for name, seconds in found.items()
    ]


def _run(name: str, cache: str) -> float:
    return _bare(cache) if name == "bare" else _launched(name, cache)


def _process(code: str) -> float:
    return spent(lambda: subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True))


def _bare(cache: str) -> float:
    code = f"CACHE = {cache!r}\n{BARE}"
    return spent(lambda: until([sys.executable, "-c", code]))


def _launched(name: str, cache: str) -> float:
    folder = Path(tempfile.mkdtemp())
    try:
        line = [
            *(sys.executable, "-m", "experiments.train", f"--cache={cache}"),
            *(f"--config=configs/digits.py:{name}", f"--workdir={folder}"),
            *(f"--config.density={1 if name == 'dense' else 0.1}", "--config.log_every=1"),
        ]
        begun = lambda: b'"train"' in _contents(folder / "metrics.jsonl")
        return spent(lambda: until(line, begun))
    finally:
        shutil.rmtree(folder)


def spent(run: Callable[[], object]) -> float:
    """Seconds of the processes that a call starts and sees the end of, by the deciding clock."""
    before = os.times()
    wall = timed(run).wall
    after = os.times()
    if deciding() == "wall":
        return wall
    return sum(after[2:4]) - sum(before[2:4])  # user's and system's, of children that have ended


def until(line: list[str], begun: Callable[[], bool] = lambda: False) -> float:
    """Seconds until `begun` or the process's end, whichever comes first; the process ends with it."""
    start = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(line, cwd=ROOT, env={**os.environ}, **quiet)
    while process.poll() is None and not begun():
        time.sleep(0.002)
    seconds = time.perf_counter() - start
    if process.poll() not in (None, 0):
        raise ValueError(f"{line[1:3]} failed: {process.communicate()[1].decode()[-2000:]}")
    process.kill()
    process.communicate()
    return seconds


def _contents(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
