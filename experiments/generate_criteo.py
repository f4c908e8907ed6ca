"""Writes a file in the exact format of Criteo's `train.txt`, with a planted structure, a function of its seed.

    python -m experiments.generate_criteo --out=$SPARSITY_DATA/criteo_generated/train.txt --rows=5000000

Nothing of it is Criteo's data. The same rows come first at any length. What the clicks depend on is printed.
"""

import time
from pathlib import Path

from absl import flags
from tqdm import tqdm

from experiments import command
from sparsity.data.criteo import planted


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    path, rows, seed = Path(str(OUT.value)), int(ROWS.value), int(SEED.value)
    path.parent.mkdir(parents=True, exist_ok=True)
    started, part = time.monotonic(), path.with_name(path.name + ".part")
    with part.open("wb") as file, tqdm(total=rows, unit="row", unit_scale=True) as bar:
        for block in planted.text(seed, rows):
            file.write(block)
            bar.update(min(planted.ROWS, rows - bar.n))
    part.replace(path)
    print(planted.described(planted.structure(seed)))
    seconds = time.monotonic() - started
    print(f"{path}: {rows:,} rows, {path.stat().st_size:,} bytes, {rows / seconds:,.0f} rows/s")


if __name__ == "__main__":
    OUT = flags.DEFINE_string("out", None, "The file to write.")
    ROWS = flags.DEFINE_integer("rows", 1_000_000, "Rows of the file.", lower_bound=1)
    SEED = flags.DEFINE_integer("seed", 0, "What the file is a function of.", lower_bound=0)
    flags.mark_flag_as_required("out")
    command.run(main, known=(ValueError, OSError))
