"""What surrounds the steps: imports, the way to the first step, checkpoints, and a run's other work.

    python -m experiments.bench_launch [--rounds=3] [--out=docs]

Every round times each thing once, in turn, so that a drift of the machine meets all of them; medians of the
wall's time. Writes its table into speed.json and speed.md.
"""

import os
import shlex
import sys
from pathlib import Path

from absl import flags

from experiments import command
from experiments.benchmarks import keeping, starting
from experiments.reporting import speed
from experiments.surroundings import surroundings

PARTS = (starting.imports, starting.first_step, keeping.checkpoints, keeping.shares)


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    print(surroundings())
    line = shlex.join(["python", "-m", "experiments.bench_launch", *sys.argv[1:]])
    rows = []
    for part in PARTS:
        for row in part(ROUNDS.value):
            print(f"{row.what:<48} {row.measured:8.3f} {row.unit:<2} {row.note}", flush=True)
            rows.append(row._asdict())
    results = {"command": line, "rounds": ROUNDS.value, "load": os.getloadavg()[0], "rows": rows}
    speed.saved(Path(OUT.value), "launch", results)


if __name__ == "__main__":
    ROUNDS = flags.DEFINE_integer("rounds", 3, "Times that each thing is timed.", lower_bound=3)
    OUT = flags.DEFINE_string("out", "docs", "Where speed.json and speed.md go.")
    command.run(main, known=(ValueError, OSError))
