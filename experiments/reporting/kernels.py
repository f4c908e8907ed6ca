"""The pages of kernel benchmarks: what a block and a density buy, per layer and device."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.benchmarks.kernel_table import entries, error
from experiments.reporting.kernel_findings import (
    VERBS,
    convolutions,
    fallback,
    floor,
    losses,
    peers,
    without,
)
from experiments.reporting.kernel_goals import goals, unmeasured
from experiments.reporting.kernel_tables import cells, table
from sparsity.kernels.tuned import slug

INTRODUCTION = """# Block-sparse products, measured

Times faster than XLA's dense product or convolution of the same layer in the same rounds: every round times
each program once, in turn (on a CPU for a hundredth of a second at least, after a run that is not timed: in its own
caches), and medians are divided. x and y are batch-major. The step is the value and both
gradients. Live blocks are uniform over the weight, or "unbalanced": columns with unlike live counts. Files of
results also hold the ratios of the fastest rounds, which other processes disturb least, and a tuned table takes
the lesser of the two.

These are the kernels themselves (`path="sparse"`). A product of `path="auto"`, the default, runs on a kernel
where a tuned table or a model expects it to be faster than the fall-back, which unpacks the weight and multiplies
densely: `sparsity.kernels.explain.explain` says which, and why. The choice rests on shapes, dtype and the
capacity of the layout, never on a live count: a layout with fewer live blocks than it has room for keeps its path,
and only gets faster on a kernel. A table of another device, jax or version of the kernels is not used: the model
decides, and a warning says so once.

On a CPU the set of layers is small (8 images, 1576 tokens, no weight of 4096 x 4096), to end in minutes.
`make bench-kernels` measures what is missing here and writes this page; `--tune` writes the table of the device.
"""


def brief(part: Mapping[str, Any]) -> str:
    """A part in a line: forward and step."""
    line = lambda verb: " ".join(f"{p}% {r:.2f}" for p, r in part["ratios"][verb].items())
    return f"forward {line('forward')} | step {line('step')}"


def pages(found: Sequence[Mapping[str, Any]], drawn: bool) -> dict[str, str]:
    """File name -> text, of several devices' results: README.md, a page of every figure each, pictures."""
    made, sections = {}, [INTRODUCTION]
    for results in found:
        name = slug(results["surroundings"]["device"])
        made[f"{name}.md"] = everything(results)
        pictures = _pictures(results, name) if drawn else {}
        made |= pictures
        sections.append(section(results, name, list(pictures)))
    sections.append(unmeasured({r["surroundings"]["platform"] for r in found}))
    return {"README.md": "\n".join(sections), **made}


def more(names: Sequence[str]) -> str:
    """Links to other pages of the folder."""
    return f"\nBeside this: {', '.join(f'[{n}]({n})' for n in names)}.\n" if names else ""


def section(results: Mapping[str, Any], name: str, pictures: Sequence[str]) -> str:
    """A device on the page: forward and step, goals, what loses."""
    here, parts = results["surroundings"], results["parts"]
    lines = [f"## {here['device']}", "", surroundings(results), "", *since(results)]
    lines += [f"![{picture}]({picture})" for picture in pictures]
    lines += ["", "Forward:", "", *table(parts, "forward"), "", "Training step:", ""]
    lines += [*table(parts, "step"), ""]
    lines += [*goals(here, parts), *without(results)]
    off = error(here["platform"], entries(results))
    said = [losses(parts), convolutions(parts), peers(parts), floor(parts), fallback(parts)]
    said.append(f"{off}")
    lines += [line for words in said if words for line in (words, "")]
    return "\n".join([*lines, f"Every figure: [{name}.md]({name}.md).", ""])


def surroundings(results: Mapping[str, Any]) -> str:
    """Device, versions, load and memory in a sentence."""
    here = results["surroundings"]
    load = max(part["load"] for part in results["parts"])
    busy = f"The load average was at most {load:.1f}: far above the cores, ratios flatter."
    if here["platform"] == "cuda":
        busy = "Times are those of a program's kernels, by the profiler: what the host takes to start them is not in."
    elif here["cores"] == 1:
        busy = "CPU time of the process, so that other processes' work does not count."
    return (
        f"{here['device']}; Python {here['python']}, jax {here['jax']}; a copy in memory moves "
        f"{results['bandwidth'] / 1e9:.0f} GB/s. {busy} A small layer stays in the caches: such points of the "
        "roofline lie above memory's slope."
    )


def since(results: Mapping[str, Any]) -> list[str]:
    """What has changed since these were measured, as whoever changed it has written beside the figures."""
    return [line for words in results.get("since", []) for line in (f"Changed since: {words}", "")]


def everything(results: Mapping[str, Any]) -> str:
    """Every ratio of a device in tables."""
    lines = [f"# {results['surroundings']['device']}", "", surroundings(results), ""]
    for verb in VERBS:
        lines += [f"## {verb}", "", *table(results["parts"], verb), ""]
    others = sorted({w for p in results["parts"] for w in p["ratios"]} - {*VERBS})
    for peer in others:
        having = [part for part in results["parts"] if peer in part["ratios"]]
        lines += [f"## {peer}, forward", "", *table(having, peer), ""]
    lines += [
        "## Dense",
        "",
        "| layer | dtype | forward ms | dX ms | dW ms | step ms | fall-back step |",
    ]
    lines.append("| --- " * 7 + "|")
    lines += [f"| {' | '.join(cells(part))} |" for part in results["parts"]]
    return "\n".join(lines) + "\n"


def _pictures(results: Mapping[str, Any], name: str) -> dict[str, str]:
    from experiments.reporting.kernel_charts import drawn

    return {f"{name}-{what}.svg": picture for what, picture in drawn(results).items()}
