"""What more devices cost: bytes exchanged per step and memory per device, as the compiler says, nothing run.

    python -m experiments.bench_scaling [--target=v5e] [--devices=1,8,16,32,64,128,256] [--arms=dense,masked]
        [--mesh=data,fsdp,model] [--total=2048] [--each=256] [--side=224] [--out=docs]

The training step of configs/imagenet.py is compiled for so many TPUs that are not here; with --target=cpu for as
many virtual devices of this CPU. A batch of --total is shared out, and --each goes to every device besides;
weights lie whole on each device (data), each lies once, in parts on all of them (fsdp), or four devices share the
columns of each and the rows are shared by the fours (model), under no rules of `mesh.rules`.
Each row is written as it comes, and a row that the same versions compiled before is not compiled again. It needs
libtpu beside the project's packages, in an environment of its own: where a program looks for TPUs, libtpu makes it
wait.
"""

# First: it says to jax, before that is imported, where to compile.
from experiments.compiled.absent import GRIDS, TPUS, NoCompiler, devices

# isort: split
import contextlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from configs import imagenet
from configs.fields import check
from experiments import command
from experiments.assembly.placement import Placement, shared
from experiments.compiled.steps import figures
from experiments.reporting import scaling
from experiments.surroundings import surroundings
from sparsity.named import choose

# The config's argument and density of an arm; the step of a plan's last phase is compiled.
ARMS = {"dense": ("dense", "1"), "masked": ("magnitude", "0.1")}
# The axes fsdp and model for so many devices; data is what is left.
MESHES: Mapping[str, Callable[[int], tuple[int, int]]] = {
    "data": lambda devices: (1, 1),
    "fsdp": lambda devices: (devices, 1),
    "model": lambda devices: (1, 4),
}
# At full effort a TPU's compiler takes more than five minutes for this step on one core. The effort does not
# reach what is summed: that is decided before.
QUICK = {"exec_time_optimization_effort": -1.0}


class Cell(NamedTuple):
    """A row of the table: an arm, how many devices share what, and the batch of all together."""

    target: str
    arm: str
    mesh: str
    devices: int
    batch: int
    side: int


def cells() -> list[Cell]:
    """Those that the flags ask for."""
    counts, arms = [int(count) for count in DEVICES.value], ARMS_.value
    found = [
        Cell(str(TARGET.value), arm, mesh, count, batch, int(SIDE.value))
        for mesh in MESH.value
        for count in counts
        for arm in arms
        for batch in (count * int(EACH.value), int(TOTAL.value))
        if batch
    ]
    if not found:
        raise ValueError("no batch is asked for: give --total or --each")
    return list(dict.fromkeys(found))


def measured(cell: Cell) -> dict[str, Any]:
    """The row of a cell: its figures, or the problem in words where the step does not fit."""
    place = _placed(cell)
    argument, density = choose("arm", cell.arm, ARMS)
    config = json.loads(imagenet.get_config(argument).to_json())
    config |= {"batch": cell.batch, "density": density, "devices": cell.devices}
    config["data"]["side"] = cell.side
    check(config)
    options = QUICK if cell.target in TPUS else {}
    row = {**cell._asdict(), "model": place.mesh.shape["model"], "problem": ""}
    try:
        return {**row, **figures(config, place, options)}
    except jax.errors.JaxRuntimeError as error:
        return {**row, "problem": " ".join(str(error).split())[:200]}


def _placed(cell: Cell) -> Placement:
    axes = choose("mesh", cell.mesh, MESHES)(cell.devices)
    if cell.target in TPUS:
        return shared(devices(cell.target, cell.devices), cell.batch, *axes, here=False)
    return shared(jax.devices("cpu")[: cell.devices], cell.batch, *axes)


def _versions() -> dict[str, Any]:
    there = surroundings()
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        there["versions"]["libtpu"] = importlib.metadata.version("libtpu")
    return {"python": there["python"], "versions": there["versions"]}


def main(argv: list[str]) -> None:
    """The command line."""
    del argv
    asked = cells()
    if TARGET.value == "cpu":
        jax.config.update("jax_num_cpu_devices", max(cell.devices for cell in asked))
    versions, stem = _versions(), Path(str(OUT.value)) / "scaling"
    rows = scaling.kept(stem, versions)
    for cell in asked:
        if any(scaling.same(row, cell._asdict()) for row in rows):
            continue
        rows.append({**measured(cell), "load": os.getloadavg()[0]})
        scaling.write(stem, versions, rows)
        print(scaling.line(rows[-1]), flush=True)


if __name__ == "__main__":
    TARGET = flags.DEFINE_enum("target", "v5e", [*TPUS, "cpu"], "What is compiled for.")
    DEVICES = flags.DEFINE_list(
        "devices", [str(n) for n in GRIDS if n != 4], "How many share a batch."
    )
    ARMS_ = flags.DEFINE_list("arms", list(ARMS), f"Of {', '.join(ARMS)}.")
    MESH = flags.DEFINE_list("mesh", list(MESHES), f"Of {', '.join(MESHES)}.")
    TOTAL = flags.DEFINE_integer("total", 2048, "Batch that is shared out; 0: none.", lower_bound=0)
    EACH = flags.DEFINE_integer("each", 256, "Batch of each device; 0: none.", lower_bound=0)
    SIDE = flags.DEFINE_integer("side", 224, "Of the pictures, in pixels.", lower_bound=32)
    OUT = flags.DEFINE_string("out", "docs", "Where scaling.md, .json and .svg go.")
    command.run(main, known=(ValueError, OSError, NoCompiler))
