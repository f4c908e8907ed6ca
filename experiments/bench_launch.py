"""What surrounds the steps: imports, the way to the first step, checkpoints, and a run's other work.

    python -m experiments.bench_launch [--rounds=7]

Every round times each thing once, in turn, so that a drift of the machine meets all of them; medians.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from configs import digits
from experiments import command
from experiments.assemble import assemble
from experiments.launch import run_of
from experiments.surroundings import surroundings
from sparsity.train import checkpoint
from sparsity.train.log import Lines
from sparsity.train.loop import fit
from sparsity.units.partition import leaves

ROOT = Path(__file__).parents[1]
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


def medians(rounds: int, timed: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Median seconds of each, taken in turn."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, run in timed.items():
            found[name].append(run())
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def imports(rounds: int) -> None:
    """The library's import beside jax's own."""
    names = ("jax", "sparsity", "experiments.train")
    found = medians(rounds, {name: lambda n=name: _process(f"import {n}") for name in names})
    print("import")
    for name in names:
        print(f"  {name:<34} {found[name]:7.2f} s   {found[name] / found['jax']:5.2f} x import jax")


def first_step(rounds: int) -> None:
    """From the command to the end of the first step, beside a bare script of the same network."""
    with tempfile.TemporaryDirectory() as folder:
        kept = {name: f"{folder}/{name}" for name in ("bare", "dense", ARGUMENT)}
        timed: dict[str, Callable[[], float]] = {}
        for state in ("cold", "with the cache"):
            for name, cache in kept.items():
                place = cache if state != "cold" else ""
                run = _bare if name == "bare" else _launched
                timed[f"{name}, {state}"] = lambda r=run, n=name, c=place: r(n, c)
        for name, cache in kept.items():
            (_bare if name == "bare" else _launched)(name, cache)
        found = medians(rounds, timed)
    print("from the command to the first step")
    for name, seconds in found.items():
        bare = found[f"bare, {name.split(', ')[1]}"]
        print(f"  {name:<34} {seconds:7.2f} s   {seconds / bare:5.2f} x the bare script")


def checkpoints(rounds: int) -> None:
    """Saving and restoring a state of 1.9M parameters with momentum, beside writing its arrays."""
    config = digits.get_config(ARGUMENT).to_dict()
    config["model"]["widths"] = (1280, 1280)
    experiment = assemble(json.loads(json.dumps(config)))
    state = experiment.shared.programs.create(jax.random.key(0), experiment.inputs)
    # Zeros, as a fresh optimiser has them, would be stored as nothing.
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda x: (rng.normal(size=x.shape) * 100).astype(x.dtype), state)
    arrays = list(leaves(state).values())
    with tempfile.TemporaryDirectory() as folder:
        kept, raw = Path(folder) / "kept", Path(folder) / "raw"
        timed = {
            "save": lambda: _timed(lambda: checkpoint.save(kept, 0, state, {})),
            "raw arrays": lambda: _timed(lambda: _raw(raw, arrays)),
            "restore": lambda: _timed(lambda: checkpoint.restore(kept, state)),
        }
        found = medians(rounds, timed)
        size, raw_size = _bytes(kept / "0"), _bytes(raw)
    print(f"checkpoint of {sum(a.nbytes for a in arrays) / 1e6:.1f} MB in {len(arrays)} arrays")
    print(f"  save, verified                     {found['save']:7.3f} s   {size:,} bytes")
    print(f"  np.save and fsync of each array    {found['raw arrays']:7.3f} s   {raw_size:,} bytes")
    print(f"  restore, verified                  {found['restore']:7.3f} s")


def shares(rounds: int) -> None:
    """The share of a run's time that goes to all that is no step, at the demo's frequencies."""
    config = digits.get_config(ARGUMENT).to_dict()
    config |= {"steps": 2000, "log_every": 100, "evaluate_every": 200, "save_every": 500}
    experiment = assemble(json.loads(json.dumps(config)))
    names, found = ("logging", "evaluation", "saving"), []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(max(3, rounds // 2) + 1):
            found.append(_shares(experiment, Path(folder) / str(i)))
    print(
        f"share of a run of {config['steps']} steps (log every {config['log_every']}, evaluate every "
        f"{config['evaluate_every']}, save every {config['save_every']})"
    )
    for name in names:
        # The first run compiles.
        print(f"  {name:<34} {100 * statistics.median(f[name] for f in found[1:]):6.2f} %")


def _shares(experiment: Any, folder: Path) -> dict[str, float]:
    """One run, each kind of work under the clock, with nothing of the steps' left to wait for."""
    folder.mkdir()
    lines = Lines(folder / "metrics.jsonl")
    spent = dict.fromkeys(("logging", "evaluation", "saving"), 0.0)

    def clocked(name: str, function: Callable[..., Any], ready: Callable[..., Any]):
        def run(*arguments):
            jax.block_until_ready(ready(*arguments))
            start = time.perf_counter()
            value = function(*arguments)
            spent[name] += time.perf_counter() - start
            return value

        return run

    plain = run_of(experiment)
    saved = lambda place, state: checkpoint.save(folder / "kept", place.step, state, {})
    run = plain._replace(
        emit=clocked("logging", lines.write, lambda record: ()),
        evaluate=clocked("evaluation", plain.evaluate, lambda state, context: state),
        save=clocked("saving", saved, lambda place, state: state),
    )
    state = experiment.shared.programs.create(jax.random.key(0), experiment.inputs)
    start = time.perf_counter()
    jax.block_until_ready(fit(run, state))
    total = time.perf_counter() - start
    lines.close()
    return {name: seconds / total for name, seconds in spent.items()}


def _process(code: str) -> float:
    return _timed(lambda: subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True))


def _bare(name: str, cache: str) -> float:
    code = f"CACHE = {cache!r}\n{BARE}"
    return _until([sys.executable, "-c", code], lambda: False)


def _launched(name: str, cache: str) -> float:
    folder = Path(tempfile.mkdtemp())
    try:
        return _until(
            [
                *(sys.executable, "-m", "experiments.train", f"--cache={cache}"),
                *(f"--config=configs/digits.py:{name}", f"--workdir={folder}"),
                *(f"--config.density={1 if name == 'dense' else 0.1}", "--config.log_every=1"),
            ],
            lambda: b'"train"' in _contents(folder / "metrics.jsonl"),
        )
    finally:
        shutil.rmtree(folder)


def _until(line: list[str], begun: Callable[[], bool]) -> float:
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


def _timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _raw(folder: Path, arrays: list[np.ndarray]) -> None:
    folder.mkdir(exist_ok=True)
    for i, array in enumerate(arrays):
        with (folder / f"{i}.npy").open("wb") as file:
            np.save(file, array)
            os.fsync(file.fileno())


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    print(surroundings())
    for part in (imports, first_step, checkpoints, shares):
        part(ROUNDS.value)


if __name__ == "__main__":
    ROUNDS = flags.DEFINE_integer("rounds", 7, "Times that each thing is timed.", lower_bound=3)
    command.run(main, known=(ValueError, OSError))
