"""Turns Criteo's `train.txt` (display-advertising challenge) into what a training run reads.

    python -m experiments.prepare_criteo --source=train.txt [--out=$SPARSITY_DATA/criteo]

The file has a label, 13 integers and 26 hashes per line, 45,840,617 lines in the published set; it may be
gzipped. Categories get a row of the embedding table per value that comes `--floor` times or more, or with
`--buckets` a row per bucket of a hash. Called again after a kill it goes on, and when it is done it says so.
Malformed lines are left out, named and counted, up to `--malformed` of them.
"""

import os
import resource
import time
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from experiments import command
from experiments.running.workdir import Workdir, claimed
from sparsity.data.criteo.prepare import SETTINGS, Order, prepare
from sparsity.data.criteo.sets import FOLDER, PUBLISHED
from sparsity.data.criteo.stages import Coding
from sparsity.data.files import VARIABLE, root_of

UNITS = {"parse": "B", "choose": "category", "encode": "row"}


class Bars:
    """A bar per stage."""

    def __init__(self) -> None:
        self._stage, self._bar = "", tqdm(disable=True)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self.close()
            options: Any = {"unit": UNITS[stage], "unit_scale": True, "dynamic_ncols": True}
            self._stage, self._bar = stage, tqdm(desc=stage, total=total or None, **options)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Ends the bar of the last stage."""
        self._bar.close()


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    folder, started = _folder(), time.monotonic()
    coding = Coding(int(FLOOR.value), int(BUCKETS.value))
    workers = int(WORKERS.value) or len(os.sched_getaffinity(0))
    order = Order(Path(str(SOURCE.value)), folder, coding, int(MALFORMED.value), workers)
    bars, fresh = Bars(), not (folder / SETTINGS).exists()
    with claimed(Workdir(folder)):
        try:
            found = prepare(order, bars)
        finally:
            bars.close()
    print(_said(folder, found))
    print(_costs(found["rows"] if fresh else 0, time.monotonic() - started, workers))


def _folder() -> Path:
    if OUT.value:
        return Path(str(OUT.value))
    root = root_of(None)
    if root is None:
        raise ValueError(f"--out names the folder of the prepared set, or set {VARIABLE}")
    return root / FOLDER


def _said(folder: Path, found: dict[str, Any]) -> str:
    rows, malformed = found["rows"], found["malformed"]
    lines = [
        f"{folder}: {rows:,} rows"
        + (f" (the published set has {PUBLISHED:,})" if rows != PUBLISHED else ""),
        f"embedding rows: {sum(found['vocabulary']):,}; text SHA-256 {found['text']['sha256']}",
    ]
    if malformed["count"]:
        first = "; ".join(f"line {line}: {reason}" for line, reason in malformed["first"])
        lines.append(f"{malformed['count']} malformed lines left out: {first}")
    return "\n".join(lines)


def _costs(rows: int, seconds: float, workers: int) -> str:
    """Speed and memory; each process is charged with the peak of the largest.

    rows: 0 where an earlier call has done some of them, so that there is no speed to tell.
    """
    own, child = (
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    peak = (own + (child * workers if workers > 1 else 0)) / 1024
    speed = f"{rows / seconds:,.0f} rows/s" if rows else "on top of what was done before,"
    return f"{seconds:.1f} s, {speed} by {workers} workers, at most {peak:,.0f} MiB"


if __name__ == "__main__":
    SOURCE = flags.DEFINE_string("source", None, "train.txt, or the same gzipped.")
    OUT = flags.DEFINE_string("out", "", f"Where to; by default ${VARIABLE}/criteo.")
    FLOOR = flags.DEFINE_integer("floor", 10, "A value that comes less often is seldom.")
    BUCKETS = flags.DEFINE_integer("buckets", 0, "Hashing: buckets per category; 0: vocabularies.")
    MALFORMED = flags.DEFINE_integer("malformed", 100, "Malformed lines that are left out at most.")
    WORKERS = flags.DEFINE_integer("workers", 0, "Processes; 0: one per core.", lower_bound=0)
    flags.mark_flag_as_required("source")
    command.run(main, known=(ValueError, OSError))
