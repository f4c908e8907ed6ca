"""One run as text for a terminal."""

from collections.abc import Mapping, Sequence

from experiments.reporting import account, runs, terminal
from experiments.reporting.chart import chart
from experiments.reporting.runs import Trace
from experiments.reporting.sections import alive

CURVES = (
    ("train", "loss", "loss on training batches, log scale"),
    ("eval", "loss", "loss on {}, log scale"),
    ("eval", "accuracy", "accuracy on {}"),
)
DRAWN = 6  # masks; of the other layers a line is enough


def of_run(trace: Trace) -> str:
    """Everything that its directory tells."""
    parts = {
        f"{trace.folder}": _pairs({**account.standing(trace), **account.asked(trace)}),
        "plan": _plan(trace),
        "layers": _indented(terminal.table(rows, left=7))
        if (rows := account.layers(trace))
        else "",
        "came out" if trace.summary else "so far": _pairs(account.came_out(trace)),
        **_curves(trace),
        **_masks(trace),
        "ran on": _pairs(account.ran_on(trace)),
        "missing": _indented(account.missing(trace)),
    }
    return "\n\n".join(f"{title}\n{text}" for title, text in parts.items() if text)


def _plan(trace: Trace) -> str:
    plan, problem = account.plan(trace)
    if not plan:
        return f"  {problem}"
    return chart(plan, trace.asked, None if trace.summary else runs.reached(trace))


def _curves(trace: Trace) -> dict[str, str]:
    found = {}
    for event, name, title in CURVES:
        curve = runs.series(trace, event, name)
        if len(curve.steps) > 1:
            lines = terminal.curve(*curve, runs.length(trace), log=name == "loss")
            found[title.format(runs.evaluated_on([trace]))] = _indented(lines)
    return found


def _masks(trace: Trace) -> dict[str, str]:
    found, where, notes = account.masks(trace)
    lines = [*notes]
    for i, (name, mask) in enumerate(found.items()):
        lines += [f"{name}: {alive(mask)}"]
        if i < DRAWN:
            lines += [f"  {line}" for line in terminal.mask(mask)]
    return {f"masks {where}" if found else "masks": _indented(lines)}


def _pairs(known: Mapping[str, str]) -> str:
    """A line for each; what has several hangs under its first."""
    wide = max(map(len, known), default=0)
    gap = "\n" + " " * (wide + 4)
    return "\n".join(
        f"  {name:<{wide}}  {gap.join(text.splitlines())}" for name, text in known.items()
    )


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)
