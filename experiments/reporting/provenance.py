"""What is said of how runs were made: how many are finished, what they share, on which machine."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting import runs
from experiments.reporting.runs import Trace

# What a comparison varies on purpose.
_VARIED = ("method", "plan", "density", "seed")


def lead(traces: Sequence[Trace]) -> str:
    unfinished = [trace for trace in traces if runs.state(trace) != "done"]
    done = len(traces) - len(unfinished)
    words = f"{done} of {len(traces)} runs are finished. {_setting(traces)} {_sameness(traces)}"
    said = f"<p>{html.escape(words)}</p>"
    if not unfinished:
        return said
    names = [f"{t.label}, density {t.density}, seed {t.seed}: {runs.state(t)}" for t in unfinished]
    items = "".join(f"<li>{html.escape(name)}</li>" for name in names)
    return (
        f'{said}\n<details class="open"{" open" * (len(names) <= 6)}><summary>This report is '
        f"incomplete: {len(names)} of {len(traces)} runs are not finished</summary><ul>{items}</ul>"
        "</details>"
    )


def _setting(traces: Sequence[Trace]) -> str:
    """What was trained, of the first run; on what machine stands in full at the page's end."""
    config, status = next(((t.config, t.status) for t in traces if t.config), ({}, {}))
    data, model, blocks = (config.get(name, {}) for name in ("data", "model", "blocks"))
    if not (data and model and blocks):
        return ""
    block = "x".join(str(n) for n in blocks.get("block") or ())
    jax = status.get("versions", {}).get("jax", "of an unknown version")
    return (
        f"The network {model.get('name')} on the data set {data.get('name')}, in blocks of "
        f"{block or 'several sizes'}, {config.get('steps', 0):,} steps of {config.get('batch')} examples "
        f"each, on {device(status)} with jax {jax}."
    )


def _sameness(traces: Sequence[Trace]) -> str:
    """Whether the runs share everything that the comparison does not vary."""
    configs = [trace.config for trace in traces if trace.config]
    keys = dict.fromkeys(key for config in configs for key in config if key not in _VARIED)
    differ = [key for key in keys if any(c.get(key) != configs[0].get(key) for c in configs)]
    if len(configs) < 2:
        return ""
    if differ:
        return f"Mind that they differ in more than method, plan, density and seed: {', '.join(differ)}."
    return (
        "Nothing here is tuned: all share the data, the model, the optimiser with its learning rate, "
        "the batch size and the number of steps, and differ in method, plan, density and seed alone."
    )


def surroundings(traces: Sequence[Trace]) -> dict[str, str]:
    """Device, versions, seeds and time, as the runs themselves have noted them."""
    found: dict[str, dict[str, None]] = {"device": {}, "versions": {}, "cores": {}}
    for status in (trace.status for trace in traces if trace.status.get("versions")):
        versions = {"python": status.get("python", "?"), **status["versions"]}
        found["device"][f"{status.get('devices', '?')} x {device(status)}"] = None
        found["cores"][f"{status.get('cores', '?')}"] = None
        found["versions"][", ".join(f"{k} {v}" for k, v in versions.items())] = None
    seconds = sum(trace.summary.get("seconds", 0.0) for trace in traces)
    unread = sum(trace.broken for trace in traces)
    return {
        **{name: " | ".join(values) or "not known" for name, values in found.items()},
        "seeds": ", ".join(str(seed) for seed in sorted({trace.seed for trace in traces})),
        "training": f"{seconds:,.0f} s, all finished runs together",
        **({"damaged": f"{unread} lines of the metrics could not be read"} if unread else {}),
    }


def device(status: Mapping[str, Any]) -> str:
    """Of a run's status, platform and kind; a CPU's are one word twice."""
    return " ".join(dict.fromkeys(str(status.get("device", "an unknown device")).split()))
