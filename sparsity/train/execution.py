"""Which layers a phase multiplies by their live blocks, and why the others stay masked.

Everything is decided on the host from static facts, before step 0: where the network multiplies, what the
method does to weights, what the optimiser remembers of them, and what the plan reads again.
"""

from collections.abc import Mapping
from typing import NamedTuple

from jax.sharding import Mesh

from sparsity.plan.phases import Kind, Plan, starts
from sparsity.target import Target
from sparsity.train import estimates
from sparsity.train.engaged import Way, Ways
from sparsity.train.facts import Facts
from sparsity.train.site import Site
from sparsity.units.masks import counts
from sparsity.units.partition import Group

MODES = ("masked", "sparse", "auto")
FIXED = (Kind.SPARSE, Kind.FINETUNE)


class Execution(NamedTuple):
    """What a run's programs know of live blocks.

    mode:     "masked" never multiplies by them, "sparse" wherever it can, "auto" where that is expected
              to be faster.
    sites:    where the network multiplies, by the kernel's path (`Model.sites`).
    batch:    examples of a step on one device. mesh: the devices that share a batch; None for one.
    platform: "cpu", "gpu" or "tpu".
    refusal:  why no layer of this run can be multiplied by live blocks, in words, or "".
    coupled:  why the optimiser cannot move live blocks without the dead ones, in words, or "".
    clipped:  steps whose gradients are averaged and then clipped as one; 1 where none are.
    facts:    of the method.
    """

    mode: str = "masked"
    sites: Mapping[str, Site] = {}
    batch: int = 1
    mesh: Mesh | None = None
    platform: str = "cpu"
    refusal: str = ""
    coupled: str = ""
    clipped: int = 1
    facts: Facts = Facts()


MASKED = Execution()


class Choice(NamedTuple):
    """A layer's way, or None where it stays masked; and why, in words."""

    way: Way | None
    why: str


def ways(execution: Execution, target: Target, plan: Plan, index: int) -> Ways:
    """What the steps of the plan's phase `index` run by."""
    found = choices(execution, target, plan, index)
    return Ways(tuple(choice.way for choice in found.values() if choice.way))


def choices(execution: Execution, target: Target, plan: Plan, index: int) -> dict[str, Choice]:
    """Each group's choice in a phase. In dense and in sparsify phases all stay masked."""
    whole = _refusal(execution, plan, index)
    if whole:
        return {name: Choice(None, whole) for name in target.partition}
    dropped = _why_dense_storage(execution, plan, index)
    keep = counts(target.partition, target.densities, plan[index].shares[0])
    return {
        name: _choice(execution, name, group, keep[name], dropped)
        for name, group in target.partition.items()
    }


def _refusal(execution: Execution, plan: Plan, index: int) -> str:
    """Why a whole phase is run masked."""
    if execution.mode == "masked":
        return "execution is masked"
    if plan[index].kind not in FIXED:
        return f"masks are not fixed in a {plan[index].kind} phase"
    return execution.facts.refusal or execution.refusal


def _choice(execution: Execution, name: str, group: Group, keep: int, dropped: str) -> Choice:
    site = execution.sites.get(name)
    if name not in execution.facts.masked:
        return Choice(None, "the method has no hard mask of it")
    if site is None:
        return Choice(None, "no module multiplies by it as its kernel")
    if reason := _unfit(group, site):
        return Choice(None, reason)
    block = group.gated[0].block
    way = Way(name, site, (block[0], block[1]), keep, not dropped, _path(execution))
    estimate = estimates.of(site, way.block, keep, execution.batch, execution.platform, way.path)
    if estimate.refusal:
        return Choice(None, estimate.refusal)
    if execution.mode == "auto" and not estimate.pays:
        return Choice(None, estimate.why)
    kept = f"weights stay dense, as {dropped}" if dropped else "weights and moments packed"
    return Choice(way, f"{estimate.why}; {kept}")


def _path(execution: Execution) -> str:
    """What decides between a kernel and dense products of live blocks: "sparse" is obeyed."""
    return "sparse" if execution.mode == "sparse" else "auto"


def _unfit(group: Group, site: Site) -> str:
    """Why a group's blocks are not those of a matrix that a module multiplies by."""
    if group.batch:
        return "its matrices are stacked"
    if len(group.gated) != 1:
        return "its units lie in several weights"
    if site.refusal:
        return site.refusal
    view, cut = group.gated[0], site.contracted
    rows, cols = tuple(range(cut)), tuple(range(cut, len(site.shape)))
    if view.shape != site.shape or view.axes != (rows, cols) or any(view.start):
        return "its blocks are cut in another matrix than the one that multiplies"
    return ""


def _why_dense_storage(execution: Execution, plan: Plan, index: int) -> str:
    """Why weights and moments may not be live blocks alone; "" where no number is missed.

    Dead weights are 0 where the phase zeroes them, and nothing to anybody where no unit ever comes back.
    Their moments are 0 where they were restarted on entering, and nothing to anybody where they will be
    before a unit can come back. Their gradients are 0 from the phase's first step on; what was accumulated
    before it is in the norm that clips the others.
    """
    if execution.coupled or execution.facts.reads:
        return execution.coupled or "the method computes with them"
    if starts(plan)[index] % execution.clipped and plan[index].reset != "restarted":
        return (
            f"the phase begins within an accumulation of {execution.clipped} steps, whose norm for the "
            "clip counts gradients of dead ones"
        )
    back = _revival(plan, index)
    if plan[index].dead == "kept" and (back is not None or execution.facts.penalises):
        return "dead ones are kept and decay" + (
            "" if back is None else " until they may come back"
        )
    restarts = plan[index : len(plan) if back is None else back + 1]
    if back is not None and not any(p.reset == "restarted" for p in restarts):
        return "the moments of dead ones are kept until they may come back"
    return ""


def _revival(plan: Plan, index: int) -> int | None:
    """The first phase behind `index` whose entering frees the masks or chooses them anew; None without."""
    for i in range(index + 1, len(plan)):
        before, phase = plan[i - 1], plan[i]
        if phase.kind not in FIXED or before.shares[1] != phase.shares[0]:
            return i
    return None
