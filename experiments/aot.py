"""Compiles every block-sparse kernel for devices that are not here, and reads what each takes of them.

    make aot [AOT_FLAGS="--small"] [AOT_FLAGS="--targets=h200 --blocks=64x64,16x128"]

`variants` says which kernels: for TPU v5e, TPU v6e and an H200. The compilers say how much VMEM, how much
shared memory and how many registers a kernel takes, and what it spills. A kernel that does not compile, that
spills, or whose tensor cores wait for each other is a failure: all are named at the end, and the program ends
with 1. What is compiled goes into docs/kernels/compiled.md and .json, beside what the same versions have compiled
before; --small is for CI and writes nothing.
"""

import argparse
import importlib.metadata
import json
import pathlib
import platform
import sys
from typing import Any

from experiments.compiled.absent import TARGETS, NoCompiler
from experiments.compiled.variants import BLOCKS, DENSITY, SHAPE, Variant, measured, sweep, verbs_of
from experiments.reporting.compiled import cells, merged, page

# The smallest block and the largest, in a dtype that all targets have.
SMALL = [("v5e", (16, 16)), ("v6e", (128, 128)), ("h200", (16, 16)), ("h200", (128, 128))]
# Versions of the table's head, those of them that are installed.
PACKAGES = (
    "jax",
    "jaxlib",
    "libtpu",
    "jax-cuda12-plugin",
    "jax-cuda13-plugin",
    "nvidia-cuda-nvcc",
    "nvidia-cuda-nvcc-cu12",
)


def main() -> None:
    given = _arguments().parse_args()
    chosen = list(sweep(given.targets, given.blocks))
    if given.small:
        chosen = [
            Variant(t, verb, block, "bfloat16") for t, block in SMALL for verb in verbs_of(t, block)
        ]
    rows = []
    for variant in chosen:
        try:
            rows.append(measured(variant))
        except NoCompiler as error:
            sys.exit(str(error))
        print(f"{variant}: {', '.join(cells(rows[-1]))}", flush=True)
    if not given.small:
        _write(rows, pathlib.Path(given.out))
    if wrong := [f"{Variant(**_named(r))}: {r['problem']}" for r in rows if r["problem"]]:
        sys.exit("these kernels cannot be used as they are:\n" + "\n".join(wrong))
    print(f"{len(rows)} kernels compiled, none spills")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="experiments.aot", allow_abbrev=False)
    parser.add_argument("--small", action="store_true", help="few kernels, for CI")
    parser.add_argument("--targets", type=_targets, default=list(TARGETS))
    parser.add_argument("--blocks", type=_blocks, default=BLOCKS)
    parser.add_argument("--out", default="docs/kernels")
    return parser


def _targets(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in TARGETS]:
        raise argparse.ArgumentTypeError(
            f"no target is called {unknown[0]!r}; there are: {', '.join(TARGETS)}"
        )
    return names


def _blocks(text: str) -> list[tuple[int, int]]:
    pairs = [tuple(map(int, part.split("x"))) for part in text.split(",") if _is_block(part)]
    if len(pairs) != text.count(",") + 1:
        raise argparse.ArgumentTypeError(f"blocks are such as 16x16,32x64, not {text!r}")
    return [(rows, cols) for rows, cols in pairs]


def _is_block(text: str) -> bool:
    sides = text.split("x")
    return len(sides) == 2 and all(side.isdecimal() and int(side) > 0 for side in sides)


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {field: row[field] for field in Variant._fields}


def _write(rows: list[dict[str, Any]], folder: pathlib.Path) -> None:
    results = {
        "command": "make aot",
        "shape": SHAPE,
        "density": DENSITY,
        "versions": {"python": platform.python_version(), **_versions()},
        "kernels": rows,
    }
    # As they are read back, so that rows of both kinds compare.
    results = json.loads(json.dumps(results))
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "compiled.json").exists():
        results = merged(json.loads((folder / "compiled.json").read_text()), results)
    (folder / "compiled.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "compiled.md").write_text(page(results))
    print(f"written: {folder / 'compiled.md'} and .json")


def _versions() -> dict[str, str]:
    there = {
        d.name.lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()
    }
    return {name: there[name] for name in PACKAGES if name in there}


if __name__ == "__main__":
    main()
