"""What a config would do: its plan, layers, costs, memory and compilations, without a step taken."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax

from experiments.assembly import streaming
from experiments.assembly.assemble import Experiment, assemble, begun, feed
from experiments.assembly.executed import shown
from experiments.reporting.chart import chart
from experiments.running.launch import run_of
from experiments.surroundings import surroundings
from sparsity.target import Target, final_context
from sparsity.train.agenda import Force, entered
from sparsity.train.loop import compilations
from sparsity.train.state import TrainState
from sparsity.train.step import Programs
from sparsity.units import costs
from sparsity.units.blocks import table


def described(config: Mapping[str, Any]) -> str:
    """The dry run's text. Raises ValueError for a config that cannot run."""
    experiment = assemble(config, without_data=True)
    parts = {
        "plan": chart(experiment.plan, 1 - float(_density(experiment.target))),
        "layers": table(experiment.layers),
        "execution": shown(
            experiment.shared.programs.execution, experiment.target, experiment.plan
        ),
        "costs of one example": _costs(experiment),
        "memory of a device": _memory(experiment),
        "compilations": _compilations(experiment),
        "on": _on(),
    }
    return "\n\n".join(f"{title}\n{text}" for title, text in parts.items())


def _density(target: Target) -> float:
    units = sum(group.size for group in target.partition.values())
    kept = sum(float(target.densities[name]) * g.size for name, g in target.partition.items())
    return kept / units if units else 1.0


def _costs(experiment: Experiment) -> str:
    uses = experiment.shared.uses
    final = final_context(experiment.target, experiment.plan)
    kept = {name: int(count) for name, count in final.target.items()}
    live = {}
    for name, group in experiment.target.partition.items():
        entries = costs.unit_entries(group.gated[0])
        live[group.gated[0].path] = round(kept[name] * entries.mean())
    whole = {"parameters": sum(uses.entries.values()), "MACs": costs.macs(uses)}
    after = {"parameters": sum({**uses.entries, **live}.values()), "MACs": costs.macs(uses, live)}
    return "\n".join(
        f"  {name:<10} {whole[name]:>15,} dense {after[name]:>15,} at the plan's end"
        for name in whole
    )


def _memory(experiment: Experiment) -> str:
    """Bytes on each device: of what a run holds, and by the compiler's account of what steps need besides."""
    state, source = begun(experiment), _source(experiment)
    parts = {
        "parameters": state.wrapped.params,
        "gates": state.wrapped.gates,
        "masks and other memory of the method": state.wrapped.memory,
        "the optimiser's state": state.opt,
        "batch statistics": state.mutable,
        **_data(experiment),
    }
    lines = [f"  {name:<46} {_size(tree):>10}" for name, tree in parts.items()]
    lines += [f"  {name:<46} {size:>10}" for name, size in _steps(experiment, state, source)]
    return "\n".join(lines)


def _data(experiment: Experiment) -> dict[str, Any]:
    """What is held of the data, by a name that says if none is here."""
    sets = experiment.sets
    if not isinstance(sets.train, streaming.Part):
        return {"the data sets": (sets.resident, sets.resident_test)}
    absent, held = ", which are not here" if sets.absent else "", streaming.READY + 1
    return {f"batches of streamed pictures{absent}": [_source(experiment)] * held}


def _source(experiment: Experiment) -> Any:
    """What the first step draws from; of streamed pictures its shapes alone."""
    part = experiment.sets.train
    if isinstance(part, streaming.Part):
        return streaming.specimen(part, experiment.config["batch"])
    return feed(experiment)(0)


def _steps(experiment: Experiment, state: Any, source: Any) -> list[tuple[str, str]]:
    """What each training program needs besides its arguments; they are compiled for it, and kept."""
    made, run, found = experiment.shared.programs, run_of(experiment), {}
    for index, phase in enumerate(experiment.plan):
        now = entered(run, index)
        key = (phase.kind, phase.frozen, phase.dead, now.ways)
        if key not in found:
            held = _held(made, state, now)
            lowered = made.train.lower(
                held, source, now.context, now.span, frozen=phase.frozen, dead=phase.dead
            )
            analysis = lowered.compile().memory_analysis()
            found[key] = analysis.temp_size_in_bytes if analysis else None
    return [
        (f"a step, {kind} phase, {ways}", "not known" if size is None else _bytes(size))
        for (kind, _, _, ways), size in found.items()
    ]


def _held(made: Programs, state: TrainState, now: Force) -> Any:
    """The state as the phase's steps take it, as shapes where it would have to be engaged."""
    if not now.ways.layers:
        return state
    return jax.eval_shape(functools.partial(made.engage, ways=now.ways), state, now.context)


def _compilations(experiment: Experiment) -> str:
    keys = compilations(run_of(experiment))
    named = [" ".join(str(part) for part in key if part not in ((), False, "kept")) for key in keys]
    return f"  {len(keys)} programs: " + ", ".join(named)


def _on() -> str:
    found = surroundings()
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"  {found['devices']} x {found['device']}, {found['cores']} cores, {versions}"


def _size(tree: Any) -> str:
    return _bytes(sum(_here(leaf) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)))


def _here(leaf: Any) -> int:
    """Entries of an array on each of its devices."""
    sharding = getattr(leaf, "sharding", None)
    return math.prod(sharding.shard_shape(leaf.shape) if sharding else leaf.shape)


def _bytes(size: int) -> str:
    if size < 1024:
        return f"{size} B"
    power = min(4, (size.bit_length() - 1) // 10)
    return f"{size / 1024**power:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"
