"""What block-sparse products gain over dense ones, by layer, block and density, measured on this machine.

    python -m experiments.bench_kernels [--cores=1] [--layers=NAME,NAME] [--dtypes=float32,bfloat16]
        [--blocks=16,32] [--densities=50,30,20,10,5,2,1] [--rounds=7] [--minutes=9] [--tune] [--page]
        [--out=docs/kernels]

Forward, dX, dW and the whole step (value and both gradients) of each layer of `kernel_layers`, batch-major,
against XLA's dense product or convolution in the same rounds. A part is a layer, a dtype and a block; parts
that the file of results holds already are not measured again, so that a call that was cut off goes on.
On a CPU with several cores, and without --cores, one core is measured first and then all.

--minutes starts no part after so many. --tune writes the table that products are dispatched by
(`sparsity.kernels.tuned`), from everything that this device's file holds. --page measures nothing and writes
README.md and the pictures beside the files of results, which every call does at its end.
It needs jax and numpy: nothing else, so that it runs on a bare machine; pictures need matplotlib.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax

from experiments.benchmarks import kernel_layers, kernel_parts, kernel_table
from experiments.benchmarks.kernel_parts import Part
from experiments.benchmarks.sitting import within
from experiments.reporting import kernels
from sparsity.kernels import backends, tuned
from sparsity.kernels.platforms import here

DENSITIES = [50, 30, 20, 10, 5, 2, 1]
# Other packages are timed on the first layer alone, at the densities where they are not hopeless.
PEER_BLOCKS = (32, 64)


def surroundings() -> dict[str, Any]:
    """What the figures belong to: they are never mixed with those of another machine or version."""
    place = here()
    return {
        "platform": place,
        "device": tuned.device_of(place),
        "cores": tuned.cores() if place == "cpu" else 0,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "kernels": tuned.KERNELS,
    }


def parts_of(asked: argparse.Namespace) -> list[Part]:
    """The parts asked for, the telling ones first."""
    place = here()
    every = kernel_layers.layers(place)
    layers = kernel_layers.chosen(every, asked.layers)
    found = [
        Part(layer, dtype, block, asked.densities, peers)
        for layer in layers
        for dtype in layer.dtypes
        if dtype in (asked.dtypes or layer.dtypes)
        for block in layer.blocks
        if block in (asked.blocks or layer.blocks)
        for peers in [place == "cpu" and layer is every[0] and block in PEER_BLOCKS]
    ]
    # One block of every layer, then the others.
    return sorted(found, key=lambda part: part.layer.blocks.index(part.block))


def run(asked: argparse.Namespace) -> None:
    """Measures every part that is missing and writes the results after each."""
    here = surroundings()
    file = asked.out / f"{tuned.slug(here['device'])}.json"
    results = held(file, here)
    missing = missing_from(results, parts_of(asked))
    asked.out.mkdir(parents=True, exist_ok=True)
    print(f"{here}: {len(missing)} parts to measure", flush=True)
    if missing and "bandwidth" not in results:
        results["bandwidth"] = kernel_parts.bandwidth(3)
    for part in within(asked.minutes, missing):
        results["parts"].append(kernel_parts.measure(part, asked.rounds))
        file.write_text(json.dumps(results, indent=1) + "\n")
        print(*part.key, kernels.brief(results["parts"][-1]), flush=True)


def missing_from(results: dict[str, Any], parts: Sequence[Part]) -> list[Part]:
    """The parts that the results lack; notes those that no kernel serves, with the reason."""
    place, missing = results["surroundings"]["platform"], []
    done = {(part["layer"], part["dtype"], part["block"]) for part in results["parts"]}
    for part in parts:
        if reason := refusal(part, place):
            name = f"{part.layer.name} ({part.dtype}, block {part.block})"
            results["without a kernel"][name] = reason
        elif part.key not in done:
            missing.append(part)
    return missing


def refusal(part: Part, place: str) -> str:
    """Why a platform has no kernel for a part, in words; "" where it has."""
    layer, block = part.layer, (part.block,) * 2
    entry = tuned.Entry("forward", layer.count, layer.shape, block, part.dtype, layer.geometry, {})
    call = entry.at(max(part.densities) / 100)
    return backends.backend_of(place, call.layout, call.dtype, call.geometry)[1]


def held(file: pathlib.Path, here: dict[str, Any]) -> dict[str, Any]:
    """The results of a file if they are of these surroundings, else none."""
    if file.is_file() and (found := json.loads(file.read_text()))["surroundings"] == here:
        return found
    return {"surroundings": here, "without a kernel": {}, "parts": []}


def finish(asked: argparse.Namespace) -> None:
    """The table if it was asked for, the page, and the pictures where they can be drawn."""
    here = surroundings()
    file = asked.out / f"{tuned.slug(here['device'])}.json"
    if asked.tune:
        print(f"wrote {kernel_table.write(held(file, here), tuned.folder())}")
    drawn = importlib.util.find_spec("matplotlib") is not None
    made = kernels.pages(measured(asked.out), drawn)
    beside = sorted(f.name for f in asked.out.glob("*.md") if f.name not in made)
    made["README.md"] += kernels.more(beside)
    for name, text in made.items():
        (asked.out / name).write_text(text)
    if not drawn:
        print("there is no matplotlib here: --page, where it is installed, draws the pictures")


def measured(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Every device's results of this benchmark in a folder, which holds those of others as well."""
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return [r for r in found if {"surroundings", "bandwidth", "parts"} <= set(r) and r["parts"]]


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The command line. argparse, because a bare machine has no absl."""
    several: Callable[[Any], Any] = lambda kind: (
        lambda text: [kind(part) for part in text.split(",")]
    )
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, help="use only so many cores of the CPU")
    parser.add_argument("--layers", type=several(str), default=[], help="parts of layers' names")
    parser.add_argument("--dtypes", type=several(str), default=[])
    parser.add_argument("--blocks", type=several(int), default=[])
    parser.add_argument("--densities", type=several(float), default=DENSITIES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--tune", action="store_true", help="write this device's tuned table")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/kernels"))
    asked = parser.parse_args(argv)
    if not all(0 < d <= 100 for d in asked.densities) or asked.rounds < 3:
        parser.error("densities are per cent in (0, 100], and there are at least 3 rounds")
    if asked.cores is not None and not 0 < asked.cores <= tuned.cores():
        parser.error(f"there are 1 to {tuned.cores()} cores to use here, not {asked.cores}")
    return asked


def main(argv: list[str]) -> None:
    """Measures, one core of a CPU first, and writes."""
    asked = parsed(argv)
    if asked.cores:  # before XLA counts them
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.cores])
    elif not asked.page and here() == "cpu" and tuned.cores() > 1:
        alone = [sys.executable, "-m", "experiments.bench_kernels", *argv, "--cores=1"]
        subprocess.run(alone, check=True)
    if not asked.page:
        run(asked)
    finish(asked)


if __name__ == "__main__":
    main(sys.argv[1:])
