"""The parts of a report that show what runs did: their plans, masks and metrics, as HTML."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.reporting import figures, runs
from experiments.reporting.canvas import Style
from experiments.reporting.document import Panel, chip, grid, legend, phase_legend, say
from experiments.reporting.figures import Line
from experiments.reporting.runs import Trace

Looks = Mapping[str, Style]

# A mask of more blocks than this makes a picture that is heavier than it is clear.
_DRAWABLE = 4096


def plans(traces: Sequence[Trace], looks: Looks) -> str:
    """The sparsity of each method over the steps."""
    panels = []
    for trace, *_ in runs.sparsest(traces):
        curve, spans, look = runs.sparsity(trace), runs.spans(trace), looks[trace.label]
        if curve.steps:
            svg = figures.sparsity_over_time(curve, spans, runs.length(trace), look)
            title = f"{chip(trace.label, look)}"
            panels.append(Panel(title, svg, f"{_phases(spans)}; asked {100 * trace.asked:.4g}%"))
    if not panels:
        return say("No run has begun, so there is no plan to draw.")
    shown = "The share of blocks that the masks in force remove, at the highest sparsity of each method."
    return say(shown) + phase_legend() + grid(panels)


def _phases(spans: Sequence[runs.Span]) -> str:
    steps: dict[str, int] = {}
    for span in spans:
        steps[span.kind] = steps.get(span.kind, 0) + span.stop - span.start
    return "steps: " + ", ".join(f"{count:,} {kind}" for kind, count in steps.items())


def masks(traces: Sequence[Trace], looks: Looks) -> str:
    """One layer of every method; every layer that can be drawn, of a single run."""
    shown = [(own[0], runs.masks(own[0])) for own in runs.sparsest(traces) if own[0].asked > 0]
    shown = [(trace, found) for trace, found in shown if found]
    if not shown:
        return say("No sparse run has exported its model yet, so there are no masks to draw.")
    if len(shown) == 1:
        return masks_of(*shown[0], looks, f"seed {shown[0][0].seed}")
    layer, seed = _layer(shown[0][1]), shown[0][0].seed
    asked = {f"{100 * trace.asked:.4g}% sparsity" for trace, _ in shown}
    where = asked.pop() if len(asked) == 1 else "the highest sparsity of each method"
    panels = [
        _mask(chip(trace.label, looks[trace.label]), found[layer], looks[trace.label])
        for trace, found in shown
        if layer in found
    ]
    said = f"The blocks of the layer {layer} at {where}, seed {seed}: filled is alive."
    return say(said) + grid(panels, "small")


def masks_of(trace: Trace, found: Mapping[str, np.ndarray], looks: Looks, which: str) -> str:
    """Every layer of a run that can be drawn; which: seed or step."""
    look, layer = looks[trace.label], _layer(found)
    names = [name for name in found if found[name].size <= _DRAWABLE or name == layer]
    panels = [_mask(chip(name, look), found[name], look) for name in names]
    said = (
        f"The blocks of each layer at {100 * trace.asked:.4g}% sparsity, {which}: filled is alive."
    )
    if left := len(found) - len(names):
        said += f" {left} layers have too many blocks to be drawn."
    return say(said) + grid(panels, "small")


def _mask(title: str, mask: np.ndarray, look: Style) -> Panel:
    return Panel(title, figures.block_mask(mask, look), alive(mask))


def _layer(masks: Mapping[str, np.ndarray]) -> str:
    """The largest layer that is still clear to draw, or the smallest there is."""
    small = {name: mask.size for name, mask in masks.items() if mask.size <= _DRAWABLE}
    return max(small, key=small.__getitem__) if small else min(masks, key=lambda n: masks[n].size)


def alive(mask: np.ndarray) -> str:
    """What is left of a mask, in words."""
    rows, cols = (int(np.sum(~mask.any(axis=axis))) for axis in (1, 0))
    return (
        f"{int(np.count_nonzero(mask)):,} of {mask.size:,} blocks alive; nothing is left in {rows} of "
        f"{mask.shape[0]} rows and {cols} of {mask.shape[1]} columns"
    )


def metrics(traces: Sequence[Trace], looks: Looks) -> str:
    """Losses and accuracies of all methods over the steps."""
    chosen = runs.sparsest(traces)
    panels = []
    for event, where in (("train", "training batches"), ("eval", runs.evaluated_on(traces))):
        for name, unit, scale in (("loss", "loss", 1.0), ("accuracy", "accuracy (%)", 100.0)):
            lines = _means(chosen, looks, event, name, scale)
            if any(len(line.curve.steps) > 1 for line in lines):
                steps = max(runs.length(trace) for own in chosen for trace in own)
                svg = figures.curves(lines, steps, unit, log=name == "loss")
                panels.append(Panel(f"{name.capitalize()} on {where}", svg))
    if not panels:
        return say("No run has logged a metric more than once.")
    alone = len(traces) == 1
    said = "" if alone else "Means over the seeds, at the highest sparsity of each method."
    if len(panels) < 4:
        said += " What was logged once, at the end, is not drawn."
    names = [] if alone else [chip(own[0].label, looks[own[0].label]) for own in chosen]
    return (say(said.strip()) if said else "") + legend(names) + grid(panels, "pair")


def _means(
    chosen: Sequence[Sequence[Trace]], looks: Looks, event: str, name: str, scale: float
) -> list[Line]:
    lines = []
    for own in chosen:
        curve = runs.mean([runs.series(trace, event, name) for trace in own])
        curve = curve._replace(values=tuple(scale * value for value in curve.values))
        if curve.steps:
            lines.append(Line(own[0].label, curve, looks[own[0].label]))
    return lines
