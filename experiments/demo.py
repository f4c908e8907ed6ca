"""Every method on real scans of digits, at two sparsities and three seeds: the table and the report.

    python -m experiments.demo [--workdir=runs/demo] [--steps=800]

No method is tuned here: all share one learning rate, one batch and one number of steps. Called again it
skips the runs that are done and goes on with those that are not.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from tqdm import tqdm

from configs import digits
from experiments import command
from experiments.assembly.assemble import assemble
from experiments.reporting import page, rows
from experiments.running.launch import Session, launch
from sparsity.train.loop import Diverged


class Entry(NamedTuple):
    """A row of the table: a label, and the config file's argument that makes it."""

    label: str
    argument: str


DENSE = Entry("dense", "dense")
ENTRIES = (
    Entry("random, from the start", "random,plan=static"),
    Entry("magnitude, one-shot", "magnitude,plan=one_shot"),
    Entry("magnitude, gradual (cubic)", "magnitude,plan=gradual"),
    Entry("PowerPropagation (block)", "powerprop,plan=one_shot"),
    Entry("AC/DC", "magnitude,plan=acdc"),
    Entry("SequentialAttention++", "sequential_attention"),
)
DENSITIES = ("0.1", "0.05")
SEEDS = (0, 1, 2)


class Cell(NamedTuple):
    """One run of the grid."""

    entry: Entry
    density: str
    seed: int

    @property
    def folder(self) -> str:
        """A name that is the same at every call."""
        word = self.entry.argument.replace(",plan=", "-")
        return f"{word}-density{self.density}-seed{self.seed}"


def grid() -> list[Cell]:
    """All runs, dense first; the seeds of one method follow each other."""
    dense = [Cell(DENSE, "1", seed) for seed in SEEDS]
    return dense + [Cell(e, d, s) for e in ENTRIES for d in DENSITIES for s in SEEDS]


def config_of(cell: Cell, steps: int) -> dict[str, Any]:
    """The config of a run, plain data."""
    config = digits.get_config(cell.entry.argument)
    config.density, config.seed, config.steps = cell.density, cell.seed, steps
    config.evaluate_every = 100
    return config.to_dict()


def table(results: Mapping[Cell, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per method and sparsity, means and standard deviations over the seeds."""
    return rows.rows((cell.entry.label, cell.density, found) for cell, found in results.items())


def run(folder: Path, steps: int) -> dict[Cell, dict[str, Any]]:
    """Runs what is missing of the grid, in one process, so that each program is compiled once."""
    cells = grid()
    done = [cell for cell in cells if (folder / cell.folder / "summary.json").exists()]
    begun = [c for c in cells if (folder / c.folder / "config.json").exists() and c not in done]
    if done:
        print(f"{len(done)} of {len(cells)} runs are done and are skipped")
    if begun:
        print(f"unfinished and run again: {', '.join(cell.folder for cell in begun)}")
    results = {}
    with tqdm(total=len(cells), unit="run", initial=len(done), dynamic_ncols=True) as bar:
        for cell in cells:
            bar.set_postfix_str(f"{cell.entry.label}, {cell.density}, seed {cell.seed}")
            say = _table_of_first(bar) if not results else lambda text: None
            results[cell] = launch(config_of(cell, steps), folder / cell.folder, Session(say))
            bar.update(cell not in done)
    return results


def _table_of_first(bar: tqdm) -> Callable[[str], None]:
    """Prints the table of layers once: it is the same for every run."""
    return lambda text: None if text.endswith("nothing to do") else bar.write(text)


def compiled(cells: Sequence[Cell], steps: int) -> str:
    """How many programs this call compiled, and whether any twice."""
    made = {id(c): c for c in (assemble(config_of(cell, steps)).shared.programs for cell in cells)}
    counts = [n for programs in made.values() for n in programs.compilations.values()]
    twice = sum(n > 1 for n in counts)
    return (
        f"{len(counts)} programs compiled for {len(cells)} runs of {len(made)} methods, "
        f"{twice or 'none'} of them more than once"
    )


def entries(results: Mapping[Cell, Any], folder: Path) -> list[page.Entry]:
    """What the report reads: a label, a density, a seed and a directory per run."""
    return [(c.entry.label, c.density, c.seed, folder / c.folder) for c in results]


def facts(results: Mapping[Cell, Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """How the table was made."""
    one = next(iter(results.values()))
    return {
        "command": "make demo",
        "data": "scikit-learn's digits, 8x8 scans; accuracy on the held-out test set",
        "tuning": "none: one learning rate, batch and number of steps for every method",
        "steps": one["steps"],
        "seeds": ", ".join(map(str, SEEDS)),
        "training": f"{sum(s['seconds'] for s in results.values()):.0f} s for {len(results)} runs",
        "this call": f"{seconds:.0f} s",
    }


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    started = time.time()
    folder = Path(str(WORKDIR.value))
    done = {cell for cell in grid() if (folder / cell.folder / "summary.json").exists()}
    results = run(folder, STEPS.value)
    found = table(results)
    print(rows.text(found))
    trained = [cell for cell in results if cell not in done]
    if trained:
        print(f"\n{compiled(trained, STEPS.value)}")
    written = folder / "report.html"
    page.write(written, entries(results, folder), found, facts(results, time.time() - started))
    print(f"\n{written}: the table and the pictures; {time.time() - started:.0f} s")


if __name__ == "__main__":
    WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Where the runs and the report go.")
    STEPS = flags.DEFINE_integer("steps", 800, "Optimiser steps of each run.", lower_bound=100)
    command.run(main, known=(ValueError, OSError, Diverged))
