"""The report of one run, finished or not, as a self-contained HTML document."""

from experiments.reporting import account, figures, runs
from experiments.reporting.canvas import Style, styles
from experiments.reporting.chart import shares
from experiments.reporting.document import (
    Panel,
    Section,
    cells,
    facts,
    grid,
    items,
    page,
    phase_legend,
    say,
)
from experiments.reporting.moves import moves
from experiments.reporting.runs import Curve, Span, Trace
from experiments.reporting.sections import masks_of, metrics
from sparsity.plan.phases import starts

POINTS = 400  # of the plan's curve


def of_run(trace: Trace) -> str:
    """Everything that its directory tells."""
    looks = styles([trace.label])
    missing, rows = account.missing(trace), account.layers(trace)
    nothing = say("The run has left no table of its layers.")
    sections = [
        Section("What it is", facts({**account.standing(trace), **account.asked(trace)})),
        Section("What came out" if trace.summary else "What came out so far", _came_out(trace)),
        Section("The plan", _plan(trace, looks[trace.label])),
        Section("The layers", cells(rows) if rows else nothing),
        Section("Which blocks are left", _masks(trace, looks)),
        Section("Loss and accuracy over time", metrics([trace], looks)),
        Section("How the masks move", moves([trace], looks)),
        Section("Where it ran", facts(account.ran_on(trace)) or say("It is not known.")),
    ]
    if missing:
        sections.insert(1, Section("What is missing", items(missing)))
    return page(f"The run {trace.label}", sections)


def _came_out(trace: Trace) -> str:
    known = account.came_out(trace)
    return facts(known) if known else say("Nothing was measured yet.")


def _plan(trace: Trace, look: Style) -> str:
    """Sparsity over the steps, as the config asks for it and as it went."""
    plan, problem = account.plan(trace)
    panels, steps, went = [], runs.length(trace), runs.sparsity(trace)
    if plan:
        edges = starts(plan)
        at = [edges[-1] * i // POINTS for i in range(POINTS)]
        values = [trace.asked * share for share in shares(plan, at)]
        asked = Curve((*at, edges[-1]), (*values, values[-1]))
        spans = [Span(p.kind, a, b) for p, a, b in zip(plan, edges, edges[1:], strict=False)]
        panels.append(
            Panel("As planned", figures.sparsity_over_time(asked, spans, edges[-1], look))
        )
    if went.steps and steps:
        svg = figures.sparsity_over_time(went, runs.spans(trace), steps, look)
        panels.append(Panel("As it went", svg, f"up to step {runs.reached(trace):,}"))
    said = say(problem) if problem else ""
    return said + (phase_legend() + grid(panels) if panels else "")


def _masks(trace: Trace, looks: dict[str, Style]) -> str:
    found, where, notes = account.masks(trace)
    damaged = items(notes) if notes else ""
    if not found:
        return damaged + say("The run has saved no masks yet.")
    return damaged + masks_of(trace, found, looks, where)
