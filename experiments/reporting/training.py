"""The page of the benchmark of executions: gains of whole training steps, a table per machine."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.reporting import markdown
from experiments.reporting.markdown import provenance, table

INTRODUCTION = (
    "Times faster than the masked step in the same rounds (medians). `masked again` is the same program timed "
    "a second time: the noise. `sparse` multiplies by live blocks wherever it can, `auto` where that is "
    "expected to be faster."
)
OF_A_GPU = (
    "Kernels are those of a step and what they take together, by the GPU's profiler; for what a step takes beyond "
    "that, the GPU waits for the host. Memory is what a step holds at once, by the compiler's word."
)
MODES = ("masked", "sparse", "auto")
Part = Mapping[str, Any]
Cell = Callable[[Part], str]


def page(devices: Sequence[Mapping[str, Any]]) -> str:
    """The results of every machine in Markdown."""
    sections = [text for results in devices for text in _section(results)]
    return markdown.page(["# Training steps on live blocks", INTRODUCTION, *sections])


def _section(results: Mapping[str, Any]) -> list[str]:
    parts = results["parts"]
    columns = {name: cell for name, cell in COLUMNS.items() if any(map(cell, parts))}
    rows = [[cell(part) for cell in columns.values()] for part in parts]
    said = [OF_A_GPU] if any(map(_kernels, parts)) else []
    title = f"## {' '.join(dict.fromkeys(results['surroundings']['device'].split()))}"
    return [title, provenance(results), *said, table([list(columns), *rows]), _worst(parts)]


def _worst(parts: Sequence[Part]) -> str:
    """How `auto` compares where it compares worst."""
    least = min(parts, key=lambda part: part["gains"]["auto"])
    gains = {name: f"{gain:.2f}" for name, gain in least["gains"].items()}
    return (
        f"At worst `auto` is {gains['auto']} times as fast as masked ({least['net']}, {least['case']}, where "
        f"masked again is {gains['masked again']})."
    )


def _gain(name: str) -> Cell:
    return lambda part: f"{part['gains'][name]:.2f}"


def _kernels(part: Part) -> str:
    found = part.get("kernels")
    return _each(found, lambda own: f"{own['count']} in {own['ms']:.2f} ms") if found else ""


def _memory(part: Part) -> str:
    found = part.get("bytes")
    return _each(found, lambda size: f"{size / 2**20:,.0f}") if found else ""


def _each(by_mode: Mapping[str, Any], said: Callable[[Any], str]) -> str:
    return ", ".join(said(by_mode[mode]) for mode in MODES)


COLUMNS: Mapping[str, Cell] = {
    "net": lambda part: part["net"],
    "batch": lambda part: str(part["batch"]),
    "dtype": lambda part: part["settings"].get("dtype", "float32"),
    "block": lambda part: f"{part['block']}x{part['block']}",
    "density": lambda part: part["density"],
    "case": lambda part: part["case"],
    "clock": lambda part: part["clock"],
    "masked, ms": lambda part: f"{part['ms']['masked']:.2f}",
    "masked again": _gain("masked again"),
    "sparse": _gain("sparse"),
    "auto": _gain("auto"),
    "layers": lambda part: ", ".join(f"{len(own)} {mode}" for mode, own in part["layers"].items()),
    "kernels (masked, sparse, auto)": _kernels,
    "memory, MiB (masked, sparse, auto)": _memory,
}
