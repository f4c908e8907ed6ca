"""What masks cost: steps, updates, compilation, bytes and whole plans as ratios to the dense network.

    python -m experiments.bench [--nets=mlp-512,mlp-128,resnet20-64,vit-64] [--seed=0]
        [--rounds=20] [--compile_rounds=2] [--plan_rounds=3] [--out=docs]

All arms of a network take turns in one process, so that a drift of the machine meets all of them. Writes
speed.json, speed.md and speed.svg; results of networks that were not named stay, if they were measured
with the same versions on the same device.
"""

import os
import shlex
import sys
from pathlib import Path

from absl import flags

from experiments import command
from experiments.benchmarks.clocks import deciding
from experiments.benchmarks.measuring import Rounds, measured
from experiments.benchmarks.networks import NETS, bench_of
from experiments.benchmarks.rows import plain
from experiments.reporting import speed
from experiments.surroundings import surroundings
from sparsity.named import unknown


def bench(names: list[str], rounds: Rounds, seed: int, out: Path) -> None:
    """Measures the named networks, and writes the page after each.

    Raises ValueError for a name that no network has.
    """
    for name in names:
        if name not in NETS:
            raise unknown("network", name, list(NETS))
    line = shlex.join(["python", "-m", "experiments.bench", *sys.argv[1:]])
    for name in names:
        on = bench_of(NETS[name], seed)
        rows = [plain(row) for row in measured(on, name, rounds, seed)]
        part = {"title": on.title, "command": line, "seed": seed, "rows": rows}
        part |= {"rounds": rounds._asdict(), "load": os.getloadavg()[0]}
        before = speed.kept(out, "masks").get("networks", {})
        networks = {n: {**before, name: part}[n] for n in NETS if n in {*before, name}}
        speed.saved(out, "masks", {"clock": deciding(), "networks": networks})
        print(f"{part['title']}\n{speed.table(rows)}\n", flush=True)


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    print(surroundings())
    rounds = Rounds(ROUNDS.value, COMPILE.value, PLAN.value)
    bench(NAMES.value, rounds, SEED.value, Path(OUT.value))


if __name__ == "__main__":
    ROUNDS = flags.DEFINE_integer("rounds", 20, "Rounds of steps and updates.", lower_bound=3)
    COMPILE = flags.DEFINE_integer("compile_rounds", 2, "Rounds of compilations.", lower_bound=1)
    PLAN = flags.DEFINE_integer("plan_rounds", 3, "Rounds of whole plans.", lower_bound=1)
    NAMES = flags.DEFINE_list("nets", list(NETS), f"Of {', '.join(NETS)}.")
    SEED = flags.DEFINE_integer("seed", 0, "Of the batch, and of the order in each round.")
    OUT = flags.DEFINE_string("out", "docs", "Where speed.json, speed.md and speed.svg go.")
    command.run(main, known=(ValueError, OSError))
