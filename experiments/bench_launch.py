"""What surrounds the steps: imports, the way to the first step, checkpoints, and a run's other work.

    python -m experiments.bench_launch [--parts=imports,first_step,first_step_cached,checkpoints,shares]
        [--rounds=3] [--out=docs]

Every round times each thing once, in turn, so that a drift of the machine meets all of them; medians. Imports and first
steps are given by the processor time of their processes where the device is the CPU, as that is what other programs
do not stretch; all else by the wall's. Writes its table into speed.json and speed.md after each part; rows of parts that were not named
stay, if they were measured with the same versions on the same device.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from experiments import command
from experiments.benchmarks import keeping, starting
from experiments.benchmarks.rows import Figure
from experiments.reporting import speed
from experiments.surroundings import surroundings
from sparsity.named import choose

COMMAND = "python -m experiments.bench_launch"

PARTS: Mapping[str, Callable[[int], list[Figure]]] = {
    "imports": starting.imports,
    "first_step": starting.first_step,
    "first_step_cached": starting.first_step_cached,
    "checkpoints": keeping.checkpoints,
    "shares": keeping.shares,
}


def measured(name: str, rounds: int) -> list[dict[str, Any]]:
    """A part's rows as plain data."""
    found = choose("part", name, PARTS)(rounds)
    load = round(os.getloadavg()[0], 1)
    return [{**row._asdict(), "part": name, "rounds": rounds, "load": load} for row in found]


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    print(surroundings())
    out = Path(str(OUT.value))
    rows = speed.kept(out, "launch").get("rows", [])
    for name in NAMES.value:
        new = measured(name, ROUNDS.value)
        for row in new:
            print(
                f"{row['what']:<48} {row['measured']:8.3f} {row['unit']:<2} {row['note']}",
                flush=True,
            )
        rows = [row for row in rows if row["part"] != name] + new
        rows.sort(key=lambda row: list(PARTS).index(row["part"]))
        speed.saved(out, "launch", {"command": COMMAND, "rows": rows})


if __name__ == "__main__":
    ROUNDS = flags.DEFINE_integer("rounds", 3, "Times that each thing is timed.", lower_bound=3)
    NAMES = flags.DEFINE_list("parts", list(PARTS), f"Of {', '.join(PARTS)}.")
    OUT = flags.DEFINE_string("out", "docs", "Where speed.json and speed.md go.")
    command.run(main, known=(ValueError, OSError))
