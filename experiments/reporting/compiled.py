"""The page of kernels compiled ahead of time: a table per kind of device, a row per kernel."""

from collections.abc import Callable, Mapping
from typing import Any

KIB, MIB = 2**10, 2**20
Row = Mapping[str, Any]


def _in(unit: int, digits: int) -> Callable[[Any], str]:
    """Bytes as so many units; "-" where the compiler did not say."""
    return lambda number: "-" if number is None else f"{number / unit:.{digits}f}"


def _plain(number: Any) -> str:
    return "-" if number is None else str(number)


# Column, field, how it reads; fields that a row lacks belong to the other kind of device.
TPU = (
    ("VMEM, MiB", "vmem", _in(MIB, 2)),
    ("planned", "vmem_planned", _in(MIB, 2)),
    ("indices planned, KiB", "smem_planned", _in(KIB, 1)),
)
GPU = (
    ("registers", "registers", _plain),
    ("spilled, bytes", "spilled", _plain),
    ("shared memory, KiB", "shared", _in(KIB, 1)),
    ("planned", "shared_planned", _in(KIB, 1)),
    ("stages", "stages", _plain),
)
BOTH = (("HBM for temporaries, MiB", "temporary", _in(MIB, 1)),)
INTRODUCTION = (
    "The convolution is 3 x 3, of 32 images of 28 x 28 x 256, at the same density, and a panel's products have "
    "1024 features. "
    "What the compilers for absent devices say of each kernel: nothing here ran on one. VMEM is what the TPU's "
    "compiler asks for where it is given too little (- where little was enough); shared memory is what Mosaic "
    "allocates, registers and spills are ptxas's. Planned is what our own budget computes before a launch."
)


def page(results: Mapping[str, Any]) -> str:
    """The results in Markdown."""
    m, k, n = results["shape"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        "# Block-sparse kernels compiled for TPU v5e, TPU v6e and an H200",
        "",
        f"Forward, dX and dW of {m} x {k} x {n} at a density of {results['density']:.0%}. {INTRODUCTION}",
        "",
        f"`{results['command']}` with {versions}",
    ]
    for title, kernels, columns in (
        ("TPU", [r for r in results["kernels"] if r["target"] != "h200"], TPU + BOTH),
        ("H200", [r for r in results["kernels"] if r["target"] == "h200"], GPU + BOTH),
    ):
        lines += ["", f"## {title}", "", *_table(kernels, columns)]
    return "\n".join(lines) + "\n"


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    """The new results, and those of other kernels that the same versions compiled before."""
    if any(old.get(fact) != new[fact] for fact in new if fact != "kernels"):
        return new
    which = lambda row: [row[field] for field in ("target", "block", "dtype", "verb")]
    found = [which(row) for row in new["kernels"]]
    kept = [row for row in old["kernels"] if which(row) not in found]
    return {**new, "kernels": sorted([*kept, *new["kernels"]], key=which)}


def cells(row: Row) -> list[str]:
    """A row's facts in words, for a terminal."""
    said = [f"{name} {show(row[field])}" for name, field, show in TPU + GPU + BOTH if field in row]
    return [*said, *([row["problem"]] if row["problem"] else []), f"{row['seconds']} s"]


def _table(kernels: list[Row], columns: Any) -> list[str]:
    names = ["target", "block", "dtype", "product", *(name for name, *_ in columns), "problem"]
    lines = ["| " + " | ".join(names) + " |", "| --- " * len(names) + "|"]
    for row in kernels:
        rows, cols = row["block"]
        facts = [show(row[field]) if field in row else "-" for _, field, show in columns]
        shown = [row["target"], f"{rows}x{cols}", row["dtype"], row["verb"], *facts, row["problem"]]
        lines.append("| " + " | ".join(shown) + " |")
    return lines
