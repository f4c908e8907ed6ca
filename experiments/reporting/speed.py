"""The page of what masks and launches cost: results by device in speed.json, tables in speed.md, a picture.

`experiments.bench` and `experiments.bench_launch` each write their own part and leave the other's.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.processor import processor
from experiments.reporting.document import save as written
from experiments.reporting.speed_chart import chart
from experiments.surroundings import surroundings

Rows = Sequence[Mapping[str, Any]]
METHOD = (
    "All arms of a network take turns in one process, in an order that is shuffled in every round; each is "
    "divided by the dense step of its own round, and what stands here is the median of these ratios with "
    "their quartiles. The second dense step is the noise floor."
)
READING = (
    "A mask update is counted beyond its own step. Compilations are bounded by 1.3 x the dense one + 0.5 s; "
    "'all of' is every program of a run, with a fresh cache on disk as a launch keeps one: a plan has a "
    "dense step, a masked step and a mask update to compile where the dense run has one step. Whole plans "
    "run compiled; under execution auto their phases of fixed masks run on live blocks where that is expected "
    "to be faster. In so few steps SequentialAttention++ updates its masks before 35% of them; beyond 300 "
    "steps it does less and less often. Peak memory is the compiler's: arguments, outputs and temporaries, "
    "less what is aliased."
)
CLOCKS = {
    "processor": (
        "Verdicts are given by processor time, that of all the process's threads together: other programs "
        "on the same cores stretch the wall's time and hardly that one. The wall's medians stand beside."
    ),
    "wall": "Verdicts are given by the wall's time: a CPU's processor time says nothing of a device.",
}
SURROUNDED = (
    "Imports and the way to the first step by the processor time of their processes where the device is the "
    "CPU, else by the wall's, as all the other rows."
)
COMMAND = "python -m experiments.bench"


def saved(out: Path, part: str, results: Mapping[str, Any]) -> None:
    """Puts one part's results on this device and as many cores into speed.json, and writes the page anew."""
    found, here = _read(out), _here()
    found.setdefault(part, {})[_named(here)] = {"surroundings": here, **results}
    written(out / "speed.json", json.dumps(found, indent=1) + "\n")
    written(out / "speed.md", page(found))
    if masks := found.get("masks"):
        written(out / "speed.svg", chart(next(iter(masks.values()))["networks"]))


def kept(out: Path, part: str) -> dict[str, Any]:
    """What speed.json holds of a part on this device and as many cores with these versions; empty for nothing."""
    here = _here()
    found = _read(out).get(part, {}).get(_named(here), {})
    return dict(found) if found.get("surroundings") == here else {}


def _here() -> dict[str, Any]:
    return {**surroundings(), "processor": processor()}


def _named(here: Mapping[str, Any]) -> str:
    """Results of a device with other cores stand beside these; those of other versions make room."""
    return f"{here['device']}, {here['cores']} core{'s' * (here['cores'] > 1)}"


def _read(out: Path) -> dict[str, Any]:
    file = out / "speed.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def page(found: Mapping[str, Any]) -> str:
    """All results in Markdown."""
    lines = [
        "# What masks cost",
        "",
        METHOD,
        "",
        READING,
        "",
        "![ratios with their bounds](speed.svg)",
        "",
    ]
    for results in found.get("masks", {}).values():
        lines += [_where(results), "", CLOCKS[results["clock"]], ""]
        for part in results["networks"].values():
            lines += [f"## {part['title']}", "", _how(part), "", *_markdown(part["rows"]), ""]
    if not any(device.startswith("gpu") for device in found.get("masks", {})):
        lines += [_unmeasured(), ""]
    for results in found.get("launch", {}).values():
        lines += ["# What surrounds the steps", "", SURROUNDED, ""]
        lines += [_where(results), "", f"`{results['command']}`", ""]
        lines += [*_launch(results["rows"]), ""]
    return "\n".join(lines)


def _unmeasured() -> str:
    return (
        "| device | every row above |\n| --- | --- |\n"
        f"| a GPU | not measured: none was there. `{COMMAND}` on it adds its table to this page |"
    )


def _where(results: Mapping[str, Any]) -> str:
    here = results["surroundings"]
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    return (
        f"On {here['device']} ({here['processor']}, {here['cores']} core{'s' * (here['cores'] > 1)}), Python {here['python']}, "
        f"{versions}."
    )


def _how(part: Mapping[str, Any]) -> str:
    rounds = part["rounds"]
    counted = (
        rounds if isinstance(rounds, int) else ", ".join(f"{k} {n}" for k, n in rounds.items())
    )
    seed = f", seed {part['seed']}" if "seed" in part else ""
    load = f", load average {part['load']:.1f}" if "load" in part else ""
    return f"`{part['command']}` (rounds: {counted}{seed}{load})"


def _markdown(rows: Rows) -> list[str]:
    head = "| what | measured | quartiles | wall | bound | verdict |"
    return [head, "| --- " * 6 + "|"] + [f"| {' | '.join(cells(row))} |" for row in rows]


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A row's cells: what, measured, quartiles, the wall's, bound, verdict."""
    spread, show = row["measured"], _number(row["unit"])
    varies = spread["low"] != spread["high"]
    return (
        row["what"],
        f"{show(spread['median'])} {row['unit']}",
        f"{show(spread['low'])} to {show(spread['high'])}" if varies else "",
        "" if row["wall"] is None else show(row["wall"]),
        "" if row["bound"] is None else f"{row['bound']:.4g}",
        row["verdict"],
    )


def _number(unit: str):
    return (lambda x: f"{x:.2f}") if unit in ("s", "ms", "%") else (lambda x: f"{x:.3f}")


def table(rows: Rows) -> str:
    """Rows for a terminal."""
    lines = [cells(row) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _launch(rows: Rows) -> list[str]:
    lines = [
        f"| {r['what']} | {r['measured']:.3g} {r['unit']} | {r['note']} | {r['rounds']} | {r['load']} |"
        for r in rows
    ]
    return ["| what | median | beside | rounds | load average |", "| --- " * 5 + "|", *lines]
