"""Several runs side by side: in what their configs differ, and what came out of each, as tables of texts."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting import account, runs, terminal
from experiments.reporting.document import Section, cells, items
from experiments.reporting.page import of_traces
from experiments.reporting.rows import rows, text
from experiments.reporting.runs import Trace
from experiments.running.identity import flat

Rows = list[list[str]]
# What does not make another kind of run: each has its own column or is no part of the training.
_LOGGED = ("log_every", "evaluate_every", "save_every")
_OWN = ("seed", "density", *_LOGGED)
_KIND = ("method.name", "plan.name")
WIDTH = 150  # of a table in a terminal


def labelled(traces: Sequence[Trace]) -> list[Trace]:
    """The runs named by method and plan, and by what differs among those of the same two.

    A run that is the same as one before it is named apart by its directory.
    """
    named = [trace._replace(label=_label(trace, traces)) for trace in traces]
    keys = [(t.label, t.density, t.seed) for t in named]
    return [
        t._replace(label=f"{t.label}, {names(traces)[i]}") if keys[i] in keys[:i] else t
        for i, t in enumerate(named)
    ]


def _label(trace: Trace, traces: Sequence[Trace]) -> str:
    if not trace.config:
        return trace.label
    method, plan = (flat(trace.config)[key] for key in _KIND)
    alike = [t for t in traces if t.config and [flat(t.config)[k] for k in _KIND] == [method, plan]]
    own = flat(trace.config)
    varied = [key for key in differing(alike) if key not in _OWN]
    words = [method, *([plan] if plan != method else [])]
    return ", ".join([*words, *(f"{key.split('.')[-1]} {own.get(key)}" for key in varied)])


def differing(traces: Sequence[Trace]) -> list[str]:
    """The fields in which the configs differ, with dots between section and field, what tells most first."""
    configs = [flat(trace.config) for trace in traces if trace.config]
    keys = dict.fromkeys(key for config in configs for key in config)
    found = [key for key in keys if any(c.get(key) != configs[0].get(key) for c in configs)]
    first = [key for key in (*_KIND, "density", "seed") if key in found]
    lacking = [key for key in found if any(key not in config for config in configs)]
    last = [*lacking, *(key for key in _LOGGED if key in found)]
    return [*first, *(key for key in found if key not in (*first, *last)), *last]


def names(traces: Sequence[Trace]) -> list[str]:
    """The directories, without what all of them begin with."""
    paths = [str(trace.folder.resolve()) for trace in traces]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, shared) for path in paths]


def differences(traces: Sequence[Trace]) -> Rows:
    """A row per run, a column per field in which they differ; empty where they don't."""
    fields = differing(traces)
    if not fields:
        return []
    head = ["run", *_headings(fields)]
    configs = [flat(trace.config) for trace in traces]
    values = [[_shown(config.get(field)) for field in fields] for config in configs]
    return [head, *([name, *own] for name, own in zip(names(traces), values, strict=True))]


def _headings(fields: Sequence[str]) -> list[str]:
    """The method's and the plan's names by their sections, the others in full."""
    return [field.removesuffix(".name") for field in fields]


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)


def outcomes(traces: Sequence[Trace]) -> Rows:
    """A row per run: its state, sparsity asked and achieved, accuracy, sizes, seconds."""
    head = ["run", "state", "asked", "achieved", "accuracy %", "parameters", "MACs", "seconds"]
    found = zip(names(traces), traces, strict=True)
    return [head, *([name, *_outcome(trace)] for name, trace in found)]


def _outcome(trace: Trace) -> list[str]:
    found = trace.summary
    asked = f"{100 * trace.asked:.4g}%" if trace.config else "–"
    if not found:
        return [_state(trace), asked, "–", _last(trace), "–", "–", "–"]
    return [
        "done",
        f"{100 * found['asked_sparsity']:.4g}%",
        f"{100 * found['achieved_sparsity']:.2f}%",
        f"{100 * found['accuracy']:.2f}",
        f"{found['parameters_live']:,}",
        f"{found['macs_live']:,}",
        f"{found['seconds']:,.1f}",
    ]


def _state(trace: Trace) -> str:
    word = runs.state(trace).split(":")[0]
    return f"{word} at {runs.reached(trace):,} of {runs.length(trace):,}" if trace.records else word


def _last(trace: Trace) -> str:
    curve = runs.series(trace, "eval", "accuracy")
    return f"{100 * curve.values[-1]:.2f} at {curve.steps[-1]:,}" if curve.steps else "–"


def problems(traces: Sequence[Trace]) -> list[str]:
    """Why runs are not done, and what is missing or damaged of which."""
    found = []
    for name, trace in zip(names(traces), traces, strict=True):
        state = runs.state(trace)
        found += [f"{name}: {state}"] * (state != "done")
        found += [f"{name}: {problem}" for problem in account.missing(trace)]
        found += [f"{name}: without a config it is in no picture"] * (not trace.config)
    return found


def transcript(traces: Sequence[Trace]) -> str:
    """The comparison as text."""
    parts = {
        "what came out": _indented(terminal.table(outcomes(traces), left=2)),
        "over the seeds": _over_seeds(traces),
        "what differs": _narrow(differences(traces)),
        "missing": _indented(problems(traces)),
    }
    return "\n\n".join(f"{title}\n{body}" for title, body in parts.items() if body)


def _over_seeds(traces: Sequence[Trace]) -> str:
    found = _rows(labelled(traces))
    return _indented(text(found).splitlines()) if any(row["seeds"] > 1 for row in found) else ""


def _rows(traces: Sequence[Trace]) -> list[dict[str, Any]]:
    return rows((t.label, t.density, t.summary) for t in traces if t.config and t.summary)


def _narrow(table: Rows) -> str:
    """As many columns as there is room for, and the names of the others."""
    if not table:
        return "  the configs are the same, or cannot be read"
    count, wide = 0, 0
    for column in zip(*table, strict=True):
        wide += 2 + max(map(len, column))
        count += wide <= WIDTH
    lines = terminal.table([row[: max(2, count)] for row in table], left=1)
    left = table[0][max(2, count) :]
    return _indented([*lines, *([f"and also: {', '.join(left)}"] if left else [])])


def document(traces: Sequence[Trace]) -> str:
    """The comparison as a self-contained HTML document."""
    known = labelled([trace for trace in traces if trace.config])
    table, missing = differences(traces), problems(traces)
    first = [Section("The runs", cells(outcomes(traces)))]
    first += [Section("In what they differ", cells(table))] if table else []
    first += [Section("What is missing", items(missing))] if missing else []
    title = f"{len(traces)} runs compared"
    return of_traces(known, _rows(known), _facts(traces), title=title, first=first)


def _facts(traces: Sequence[Trace]) -> Mapping[str, str]:
    return {"directories": ", ".join(str(trace.folder) for trace in traces)}


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)
