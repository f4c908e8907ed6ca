"""A table's results as text, Markdown, CSV, LaTeX and JSON, and what became of the claims."""

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Results = Mapping[str, Any]


class Cell(NamedTuple):
    """An arm at one place: accuracies in percent by seed, and the causes of the runs that have none."""

    accuracies: Mapping[int, float]
    causes: tuple[str, ...]
    asked: float
    achieved: float

    @property
    def mean(self) -> float:
        """Percent; NaN where no run has ended."""
        return statistics.mean(self.accuracies.values()) if self.accuracies else math.nan

    @property
    def sd(self) -> float:
        """Standard deviation over the seeds; NaN for fewer than two."""
        return statistics.stdev(self.accuracies.values()) if len(self.accuracies) > 1 else math.nan

    def __str__(self) -> str:
        words = f"{self.mean:.2f}" if self.accuracies else ""
        words += f" ± {self.sd:.2f}" if len(self.accuracies) > 1 else ""
        if self.causes:
            words += f" ({len(self.causes)} {self.causes[0].split(':')[0]})"
        return words.strip()


def grid(found: Results) -> dict[str, dict[str, Cell]]:
    """{arm: {place: cell}}; a dense arm has the one place ""."""
    cells: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for run in found["runs"]:
        cells.setdefault(run["arm"], {}).setdefault(place_of(run["cell"]), []).append(run)
    return {arm: {place: _cell(runs) for place, runs in own.items()} for arm, own in cells.items()}


def _cell(runs: Sequence[Mapping[str, Any]]) -> Cell:
    ended = [run for run in runs if run["summary"]]
    first = ended[0]["summary"] if ended else {}
    return Cell(
        {run["seed"]: 100 * run["summary"]["accuracy"] for run in ended},
        tuple(run["cause"] for run in runs if run["cause"]),
        first.get("asked_sparsity", math.nan),
        first.get("achieved_sparsity", math.nan),
    )


def place_of(cell: Mapping[str, Any]) -> str:
    """A cell in words: "8x8, 90%"."""
    return ", ".join(_said(field, value) for field, value in cell.items())


def _said(field: str, value: Any) -> str:
    if field == "blocks.block":
        return "x".join(str(n) for n in value)
    if field == "density":
        return f"{100 * (1 - float(value)):.3g}%"
    return f"{field.split('.')[-1]} {value}"


def claims(found: Results) -> list[dict[str, Any]]:
    """Per claim and place: the difference in points, its spread, and whether it held.

    Arms are paired by seed: the difference of two runs of one seed, its mean, and the standard error of
    that mean. "held" is a mean above two standard errors, "not held" one below minus two, else
    "within the spread".
    """
    cells, lines = grid(found), []
    for claim in found["claims"]:
        for place in map(place_of, found["cells"]):
            pair = [cells.get(claim[side], {}).get(place) for side in ("better", "worse")]
            lines.append({"claim": claim["claim"], "place": place, **_difference(*pair)})
    return lines


def _difference(better: Cell | None, worse: Cell | None) -> dict[str, Any]:
    shared = better.accuracies.keys() & worse.accuracies.keys() if better and worse else set()
    if not better or not worse or len(shared) < 2:
        return {"points": math.nan, "error": math.nan, "verdict": ""}
    each = [better.accuracies[seed] - worse.accuracies[seed] for seed in sorted(shared)]
    mean, error = statistics.mean(each), statistics.stdev(each) / math.sqrt(len(each))
    held = "held" if mean > 2 * error else "not held" if mean < -2 * error else "within the spread"
    return {"points": mean, "error": error, "verdict": held}


def table(found: Results) -> list[list[str]]:
    """Rows of texts: a head, then one per arm."""
    places = [place_of(cell) for cell in found["cells"]]
    rows = [["method", *places]]
    for arm, own in grid(found).items():
        if "" in own:
            rows.append([f"{arm}: {own['']}", *[""] * len(places)])
        else:
            rows.append([arm, *(str(own[place]) if place in own else "" for place in places)])
    return rows


def text(found: Results) -> str:
    """The table for a terminal."""
    rows = table(found)
    widths = [max(len(row[i]) for row in rows[:1] + rows[2:]) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def markdown(found: Results, pictures: Sequence[str] = ()) -> str:
    """The table, its pictures (names of files), the claims, what was tuned, and how it was made."""
    rows, how, tuning = table(found), found["how"], found["tuning"]
    trials = {name: own for name, own in tuning["trials"].items() if own}
    count = len(next(iter(trials.values()), []))
    made = (
        f"{provenance(how)}; seeds {', '.join(map(str, found['seeds']))}; "
        f"{how['run seconds']:,} core-seconds for the runs of the table. Test accuracy in percent, mean ± "
        "standard deviation; a blank was not run."
    )
    judged = (
        "Differences in points, paired by seed, with the standard error of their mean; held: above two "
        "standard errors."
    )
    tuned = (
        f"{count} trials per method, each with the seeds {', '.join(map(str, tuning['seeds']))}, at "
        f"{place_of(tuning['at'])} on a validation split cut from the training set: "
        f"{sum(map(len, trials.values()))} combinations in all. Chosen is the best mean."
    )
    parts = [
        [f"# {found['title']}"],
        [made],
        rows_in_markdown(rows),
        *[[f"![{name}]({name})"] for name in pictures],
        ["## Claims"],
        [judged],
        rows_in_markdown(_claim_rows(found)),
        ["## Tuning"],
        [tuned],
        rows_in_markdown(_trial_rows(trials, found["chosen"])),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _claim_rows(found: Results) -> list[list[str]]:
    places = [place_of(cell) for cell in found["cells"]]
    rows = [["claim", *places]]
    named: dict[str, dict[str, str]] = {}
    for line in claims(found):
        shown = f"{line['points']:+.2f} ± {line['error']:.2f} {line['verdict']}"
        named.setdefault(line["claim"], {})[line["place"]] = shown if line["verdict"] else ""
    return rows + [[claim, *(own[place] for place in places)] for claim, own in named.items()]


def _trial_rows(
    trials: Mapping[str, Sequence[Mapping[str, Any]]], chosen: Mapping[str, Any]
) -> list[list[str]]:
    rows = [["method", "tried", "validation accuracy", ""]]
    for name, own in trials.items():
        for trial in own:
            point = ", ".join(f"{k.split('.')[-1]} {v}" for k, v in trial["point"].items())
            accuracies = [100 * a for a in trial["accuracies"]]
            mean = f"{statistics.mean(accuracies):.2f}" if accuracies else ""
            mean += f" ({len(trial['causes'])} failed)" if trial["causes"] else ""
            rows.append([name, point, mean, "chosen" if trial["point"] == chosen[name] else ""])
    return rows


def provenance(how: Mapping[str, Any]) -> str:
    """The command that made something, on what device, with what versions."""
    there = how["surroundings"]
    versions = ", ".join(f"{k} {v}" for k, v in there["versions"].items())
    return (
        f"`{how['command']}`; {there['device']}, {there['cores']} cores, Python {there['python']}, "
        f"{versions}"
    )


def rows_in_markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose first row is its head."""
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return [head, f"|{' --- |' * len(rows[0])}", *body]


def comma_separated(found: Results) -> str:
    """One line per run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["method", "place", "seed", "asked", "achieved", "accuracy", "loss", "run", "cause"]
    )
    for run in found["runs"]:
        s = run["summary"]
        numbers = [
            s.get(k, "") for k in ("asked_sparsity", "achieved_sparsity", "accuracy", "loss")
        ]
        place = place_of(run["cell"])
        writer.writerow([run["arm"], place, run["seed"], *numbers, run["run"], run["cause"]])
    return out.getvalue()


def latex(found: Results) -> str:
    """The table for a paper, with booktabs."""
    rows = [[_escaped(cell) for cell in row] for row in table(found)]
    body = [f"{' & '.join(row)} \\\\" for row in rows]
    return "\n".join(
        [
            f"\\begin{{tabular}}{{l{'c' * (len(rows[0]) - 1)}}}",
            "\\toprule",
            body[0],
            "\\midrule",
            *body[1:],
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


def _escaped(words: str) -> str:
    for sign in "&%_#":
        words = words.replace(sign, f"\\{sign}")
    return words.replace("±", "$\\pm$")


def write(stem: Path, found: Results, pictures: Mapping[str, str] | None = None) -> list[Path]:
    """Writes stem.md, .csv, .tex, .json, and stem-NAME.svg of each picture; returns their paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    drawn = {f"-{name}.svg": svg for name, svg in (pictures or {}).items()}
    texts = {
        ".md": markdown(found, [stem.name + suffix for suffix in drawn]),
        ".csv": comma_separated(found),
        ".tex": latex(found),
        ".json": json.dumps(found, indent=1) + "\n",
        **drawn,
    }
    paths = [stem.with_name(stem.name + suffix) for suffix in texts]
    for path, content in zip(paths, texts.values(), strict=True):
        path.write_text(content, encoding="utf-8")
    return paths
