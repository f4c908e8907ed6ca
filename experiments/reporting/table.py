"""A table of methods as a page: beside the paper's figures, with every cell in full, its claims and tuning."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting import claims, exports, files, lines, markdown, terminal
from experiments.reporting.metrics import Metric, metrics
from experiments.reporting.places import place_of
from experiments.reporting.published import figures, sources
from experiments.reporting.results import Results


def text(found: Results) -> str:
    """The table for a terminal."""
    head, *body = lines.compact(found)
    wide = [row for row in body if any(row[1:])]
    shown = terminal.table([head, *wide], left=1) if wide else []
    alone = [row[0] for row in body if not any(row[1:])]
    return "\n".join([*alone, *shown])


def write(stem: Path, found: Results, pictures: Mapping[str, str] | None = None) -> list[Path]:
    """Writes stem.md, .csv (a line per run), -cells.csv, .tex, .json, and stem-NAME.svg of each picture."""
    drawn = {f"-{name}.svg": svg for name, svg in (pictures or {}).items()}
    texts = {
        ".md": page(found, [stem.name + suffix for suffix in drawn]),
        ".csv": exports.runs(found),
        "-cells.csv": exports.cells(found),
        ".tex": exports.latex(found),
        ".json": json.dumps(found, indent=1) + "\n",
    }
    return files.write(stem, {**texts, **drawn})


def page(found: Results, pictures: Sequence[str] = ()) -> str:
    """The document; pictures: names of files beside it."""
    first, *others = metrics(found)
    parts = [f"# {found['title']}", _made(found, first), markdown.table(lines.compact(found))]
    for metric in others:
        parts += [f"## {metric.name}", markdown.table(lines.compact(found, metric))]
    parts += [f"![{name}]({name})" for name in pictures]
    parts += [
        "## Cells",
        (_PAPER if figures(found) else "") + _CELLS + _timed(found),
        markdown.table(lines.full(found)),
    ]
    if len(causes := lines.unfinished(found)) > 1:
        parts += ["## Runs without numbers", markdown.table(causes)]
    if found["claims"]:
        parts += ["## Claims", _judged(first), markdown.table(claims.rows(found))]
    return markdown.page([*parts, *_tuning(found, first)])


_PAPER = (
    "Paper: what is published for the same cell, n/a where no figure is at hand; difference: ours minus the "
    "paper's. "
)
_CELLS = (
    "Asked and actual: sparsity of blocks in the layers that are cut; of all weights: the same where layers "
    "that stay dense count too, as arXiv 2402.17902 prints it. Device hours: of all seeds together. ms: a "
    "batch through the final model, as it is and on its live blocks alone."
)


def _timed(found: Results) -> str:
    """On what the latencies were measured, "" where none was."""
    ways = [
        f"a batch of {way['batch']}, {way['device'].split()[0]}, {way['cores']} cores, the median of "
        f"{way['rounds']} rounds in which both take turns"
        for run in found["runs"]
        if (way := run.get("timed"))
    ]
    return f" Measured: {'; '.join(dict.fromkeys(ways))}." if ways else ""


def _made(found: Results, metric: Metric) -> str:
    said = metric.name[0].upper() + metric.name[1:]
    seeds = ", ".join(map(str, found["seeds"]))
    count = lines.open_cells(found)
    made = (
        f"{markdown.provenance(found['how'])}; seeds {seeds}; {found['how']['run seconds']:,} seconds for "
        f"the runs of the table. {said}, mean ± standard deviation; {metric.better} is better."
    )
    later = "; ".join(found["how"].get("later", ()))
    run_later = f"By later calls with --only, on the same ground: {later}." if later else ""
    missing = f"Blank: {count} of {len(found['runs'])} runs have not ended." if count else ""
    papers = sources(figures(found))
    beside = f"In brackets the paper's: {'; '.join(papers)}." if papers else ""
    return " ".join(filter(None, [made, run_later, missing, beside, found.get("note", "")]))


def _judged(metric: Metric) -> str:
    return (
        f"By how much the better arm is better, in {metric.unit}, paired by seed, with the standard error of "
        "the mean; held: above two standard errors."
    )


def _tuning(found: Results, metric: Metric) -> list[str]:
    trials = found["tuning"].get("trials")
    if not trials:
        return []
    tuning, count = found["tuning"], len(next(iter(trials.values())))
    words = (
        f"{count} trials per method, each with the seeds {', '.join(map(str, tuning['seeds']))}, at "
        f"{place_of(tuning['at'])} on a validation split cut from the training set: "
        f"{sum(map(len, trials.values()))} combinations in all. Chosen is the best mean."
    )
    return ["## Tuning", words, markdown.table(_trials(trials, found["chosen"], metric))]


def _trials(
    trials: Mapping[str, Sequence[Mapping[str, Any]]], chosen: Mapping[str, Any], metric: Metric
) -> list[list[str]]:
    rows = [["method", "tried", f"{metric.field}, validation", ""]]
    for name, own in trials.items():
        for trial in own:
            point = ", ".join(f"{k.split('.')[-1]} {v}" for k, v in trial["point"].items())
            mark = "chosen" if trial["point"] == chosen.get(name) else ""
            rows.append([name, point, _tried(trial, metric), mark])
    return rows


def _tried(trial: Mapping[str, Any], metric: Metric) -> str:
    values = trial["values"]
    mean = metric.text(metric.scale * statistics.mean(values)) if values else ""
    return mean + (f" ({len(trial['causes'])} failed)" if trial["causes"] else "")
