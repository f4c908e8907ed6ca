"""The page of a kernel benchmark: one table of ratios, a row per block and density."""

import statistics
from collections.abc import Mapping
from typing import Any

# What is measured against its dense counterpart.
VERBS = ("forward", "forward, unbalanced", "dX", "dW", "step")
INTRODUCTION = (
    "Times faster than XLA's dense product in the same rounds (medians); x and y batch-major. The step is "
    "the value and both gradients."
)


def name_of(here: Mapping[str, Any]) -> str:
    """The results' file name: platform, cores, shape and dtype."""
    where = here["device"].split()[0] + (f"-{here['cores']}-core" if here["processor"] else "")
    return "-".join([where, "x".join(map(str, here["shape"])), here["dtype"]])


def page(results: Mapping[str, Any]) -> str:
    """The results in Markdown."""
    here = results["surroundings"]
    m, k, n = here["shape"]
    lines = [
        f"# Block-sparse products on {here['device']}, {here['dtype']}, {m} x {k} x {n}",
        "",
        INTRODUCTION,
        "",
        f"`{results['command']}`",
        "",
        ", ".join(f"{key} {value}" for key, value in here.items() if value != ""),
        "",
    ]
    columns = [*VERBS, *sorted({c for part in results["parts"] for c in part["ratios"]} - {*VERBS})]
    lines += [
        "| block | density | " + " | ".join(columns) + " |",
        "| --- " * (len(columns) + 2) + "|",
    ]
    for part in results["parts"]:
        cells = [f"{part['ratios'][c]:.2f}" if c in part["ratios"] else "" for c in columns]
        lines.append(f"| {part['block']} | {part['percent']:g}% | " + " | ".join(cells) + " |")
    dense = [part["ms"]["dense forward"] for part in results["parts"]]
    load = max((part["load"] for part in results["parts"]), default=0.0)
    took = f"The dense forward product took {statistics.median(dense):.2f} ms."
    busy = (
        f"The machine's load average was at most {load:.1f}; far above the cores, ratios flatter."
    )
    lines += ["", took, busy]
    return "\n".join(lines) + "\n"
