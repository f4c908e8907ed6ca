"""What a run has left in its directory, finished or not, as plain values."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.reporting import reading
from experiments.running.workdir import Workdir, in_use
from sparsity.surgery import export

Record = Mapping[str, Any]


class Trace(NamedTuple):
    """One run: what it is called, and what its directory holds; empty where there is nothing yet.

    broken:   lines of the metrics that could not be read (a kill may cut one).
    problems: a sentence for each file that is missing or damaged.
    held:     whether a process is in the directory.
    """

    label: str
    density: str
    seed: int
    folder: Path
    config: Record
    resolved: Record
    status: Record
    summary: Record
    records: tuple[Record, ...]
    broken: int
    problems: tuple[str, ...]
    held: bool

    @property
    def asked(self) -> float:
        """Sparsity of blocks that was asked for."""
        return float(1 - Fraction(self.density))


class Span(NamedTuple):
    """A phase: its kind, its first step and the step behind its last."""

    kind: str
    start: int
    stop: int


class Curve(NamedTuple):
    """Values over optimiser steps."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


def read(label: str, density: str, seed: int, folder: Path) -> Trace:
    """The run in `folder`; a folder or file that is missing or damaged reads as empty."""
    return Trace(label, str(density), seed, folder, *reading.files(folder), in_use(Workdir(folder)))


def sparsest(traces: Sequence[Trace]) -> list[list[Trace]]:
    """Per label its runs at its highest sparsity, by seed, of those that have records."""
    labels: dict[str, list[Trace]] = {}
    for trace in sorted(traces, key=lambda t: t.seed):
        if trace.records:
            labels.setdefault(trace.label, []).append(trace)
    return [[t for t in own if t.asked == max(o.asked for o in own)] for own in labels.values()]


def state(trace: Trace) -> str:
    """In words: done, not started, running, killed, preempted, failed and why."""
    if trace.summary:
        return "done"
    word = trace.status.get("status")
    if not word or word == "done":
        return "without a summary" if trace.config or trace.records else "not started"
    if word == "running" and not trace.held:
        return "killed: its status says running, but no process is in its directory"
    cause = trace.status.get("cause")
    return f"{word}: {cause}" if cause else word


def evaluated_on(traces: Sequence[Trace]) -> str:
    """What the accuracies are of; a share cut from the training set stands in for the test set."""
    shares = {t.config.get("data", {}).get("validation", 0) for t in traces if t.config}
    if not any(shares):
        return "the test set"
    return "the validation set" if all(shares) else "the test or the validation set"


def reached(trace: Trace) -> int:
    """The step of the last record."""
    return max((r["step"] for r in trace.records), default=0)


def length(trace: Trace) -> int:
    """Optimiser steps of the whole run."""
    return int(trace.config.get("steps") or reached(trace))


def spans(trace: Trace) -> list[Span]:
    """The phases in order, up to where the run has come."""
    enters = [r for r in trace.records if r["event"] == "tick" and r.get("at") == "enter"]
    stops = [*(r["step"] for r in enters[1:]), *[reached(trace)] * bool(enters)]
    return [Span(r["phase"], r["step"], stop) for r, stop in zip(enters, stops, strict=True)]


def series(trace: Trace, event: str, name: str) -> Curve:
    """A number of the "train" or "eval" records over the steps."""
    return _curve((r["step"], r.get(name)) for r in trace.records if r["event"] == event)


def updates(trace: Trace, name: str) -> dict[str, Curve]:
    """A number per group at each choice of masks that prunes; groups that have none are left out.

    A sparsify phase begins with a choice that keeps everything, which says nothing.
    """
    ticks = [r for r in trace.records if r["event"] == "tick"]
    chosen = [r for r in ticks if r.get("selected") and r.get("share", 1)]
    groups = {group: None for r in chosen for group in r.get("groups", {})}
    curves = {
        group: _curve((r["step"], r["groups"].get(group, {}).get(name)) for r in chosen)
        for group in groups
    }
    return {group: curve for group, curve in curves.items() if curve.steps}


def sparsity(trace: Trace) -> Curve:
    """The share of blocks that the masks in force remove; a step function, closed at the run's end.

    In a dense phase the last masks are remembered and not in force. A tick that leaves the masks as they
    are need not name them.
    """
    ticks = [r for r in trace.records if r["event"] == "tick"]
    first = next((r for r in ticks if r.get("groups")), None)
    total = alive = _units(first) if first else 0
    points = []
    for r in ticks:
        if r.get("groups"):
            alive = sum(group["alive"] for group in r["groups"].values())
        points.append((r["step"], 0.0 if r["phase"] == "dense" or not total else 1 - alive / total))
    if points:
        points.append((reached(trace), points[-1][1]))
    return _curve(points)


def masks(trace: Trace) -> dict[str, np.ndarray]:
    """The final 0/1 masks by group as matrices (rows, cols): of layers that are stacked, the first.

    Empty while the run has no exported model, or one that cannot be read.
    """
    try:
        return matrices(export.read(trace.folder)[1])
    except (OSError, ValueError, KeyError, RecursionError):
        return {}


def matrices(masks: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Masks of any number of axes as matrices; ValueError for an empty one."""
    found = {name: np.atleast_2d(np.asarray(mask)) for name, mask in masks.items()}
    return {name: m.reshape(-1, *m.shape[-2:])[0] for name, m in found.items()}


def mean(curves: Sequence[Curve]) -> Curve:
    """The mean over runs, at the steps that every run has."""
    found = [dict(zip(c.steps, c.values, strict=True)) for c in curves if c.steps]
    if not found:
        return Curve((), ())
    shared = sorted(set(found[0]).intersection(*found[1:]))
    return _curve((step, statistics.fmean(f[step] for f in found)) for step in shared)


def gapped(curve: Curve, phases: Sequence[Span]) -> Curve:
    """The curve with a gap wherever a dense phase begins between two of its steps."""
    releases = [span.start for span in phases if span.kind == "dense"]
    steps, values = [], []
    for (step, value), before in zip(zip(*curve, strict=True), (None, *curve.steps), strict=False):
        if before is not None and any(before <= release < step for release in releases):
            steps.append(step)
            values.append(float("nan"))
        steps.append(step)
        values.append(value)
    return Curve(tuple(steps), tuple(values))


def _units(tick: Record) -> int:
    """Units of all groups, from the first tick that names them: before it, all are alive."""
    return sum(
        group["alive"] - group.get("revived", 0) + group.get("pruned", 0)
        for group in tick["groups"].values()
    )


def _curve(points: Iterable[tuple[int, Any]]) -> Curve:
    kept = [(step, float(value)) for step, value in points if value is not None]
    return Curve(tuple(step for step, _ in kept), tuple(value for _, value in kept))
