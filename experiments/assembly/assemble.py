"""Where a config meets objects: the only place. Everything is checked here, before step 0.

Runs that differ in seed, density or plan alone share their programs, so that a sweep compiles each once.
"""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

import sparsity.methods
from configs.fields import check
from experiments.assembly import refusals
from experiments.assembly.executed import executed
from experiments.assembly.placement import Placement, placement
from experiments.assembly.planned import plan_of
from experiments.assembly.rules import rules
from experiments.assembly.sets import Sets, drawing, feeding, load
from experiments.assembly.shared_out import shared_out
from sparsity import models
from sparsity.contract import Context, Method, State, chain
from sparsity.families import penalised, proximal_step
from sparsity.named import call, function_of
from sparsity.penalties import Q
from sparsity.penalties import named as named_penalty
from sparsity.plan.phases import Plan
from sparsity.surgery import export
from sparsity.target import Target
from sparsity.train.forward import Model, linen
from sparsity.train.optimizer import optimizer
from sparsity.train.state import TrainState
from sparsity.train.step import Draw, Programs, programs
from sparsity.units.blocks import Layer, Rule, blocks, exact, partition_of
from sparsity.units.costs import Uses, multiplies
from sparsity.units.partition import Partition


class Shared(NamedTuple):
    """What runs that differ in seed, density or plan alone have in common.

    shapes: of the model's trained tree. draw: (source, step, key) -> the step's batch.
    fold: (method state, context) -> the plain parameters.
    """

    model: Model
    shapes: Any
    partition: Partition
    draw: Draw
    programs: Programs
    uses: Uses
    fold: Callable[[State, Context], Any]


class Experiment(NamedTuple):
    """A config's objects. layers is the resolved table; inputs a batch of one."""

    config: Mapping[str, Any]
    placement: Placement
    sets: Sets
    shared: Shared
    layers: tuple[Layer, ...]
    target: Target
    plan: Plan
    inputs: jax.Array


def assemble(config: Mapping[str, Any], without_data: bool = False) -> Experiment:
    """The objects of a config (plain nested data); raises ValueError for what cannot run.

    without_data: put up with a set that is not here, where its size is known (a dry run).
    """
    check(config)
    mesh = config["mesh"]
    place = placement(
        config["device"], config["devices"], config["batch"], mesh["fsdp"], mesh["model"]
    )
    return assembled(config, place, without_data)


def assembled(config: Mapping[str, Any], place: Placement, without_data: bool) -> Experiment:
    """`assemble` for a placement of one's own, whatever a checked config says of devices."""
    refusals.refuse_dense(config)
    density = exact(config["density"])
    sets = _sets(_frozen(config["data"]), place)
    if sets.absent and not without_data:
        raise sets.absent
    per_epoch = sets.examples // config["batch"]
    if not per_epoch:
        raise ValueError(
            f"a batch of {config['batch']} is larger than the training set of {sets.examples}"
        )
    plan = plan_of(config, per_epoch)
    shared = _shared(_frozen({k: v for k, v in config.items() if k not in _OWN}), place)
    layers = blocks(
        shared.shapes,
        _rules(config["blocks"]),
        density=density,
        at_least=config["blocks"]["at_least"],
    )
    target = Target.of(layers)
    refusals.refuse(config, shared.programs.method, shared.shapes, layers, plan)
    inputs = place.put(sets.kind.example(sets.train))
    return Experiment(config, place, sets, shared, layers, target, plan, inputs)


# Fields that the shared programs do not depend on.
_OWN = ("seed", "density", "plan", "log_every", "evaluate_every", "save_every", "settle")


@functools.lru_cache(maxsize=4)
def _sets(frozen: str, place: Placement) -> Sets:
    return load(json.loads(frozen), place)


@functools.lru_cache(maxsize=64)
def _shared(frozen: str, place: Placement) -> Shared:
    config = json.loads(frozen)
    sets = _sets(_frozen(config["data"]), place)
    model = _model(_frozen(config["model"]), _frozen(sets.kind.facts(sets.train)))
    example = sets.kind.example(sets.train)
    params, mutable = jax.eval_shape(model.init, jax.random.key(0), example)
    layers = blocks(
        params, _rules(config["blocks"]), density=1, at_least=config["blocks"]["at_least"]
    )
    partition = partition_of(layers)
    method, prox = _method(config, params, partition)
    taken = {"steps": config["steps"], "prox": prox}
    settings = refusals.optimizer_settings(config["optimizer"], taken)
    tx = call("the optimizer", optimizer, settings=settings)
    run_by = executed(config, model, (params, mutable, example), (method, partition, prox), place)
    draw = drawing(config["data"], sets, place)
    made = programs(
        model,
        method,
        partition,
        tx,
        draw,
        sets.kind.objective(config["label_smoothing"]),
        run_by,
        shared_out(config, place, partition, params),
    )
    uses = multiplies(lambda p, m, x: model.apply(p, m, x)[0], params, mutable, example)
    fold = jax.jit(functools.partial(export.folded, method))
    return Shared(model, params, partition, draw, made, uses, fold)


@functools.lru_cache(maxsize=16)
def _model(frozen: str, facts: str) -> Model:
    """One per model, so that methods share its compiled init."""
    section = json.loads(frozen)
    settings = {key: value for key, value in section.items() if key != "name"}
    return linen(models.build(section["name"], facts=json.loads(facts), **settings))


def _method(config: Mapping[str, Any], shapes: Any, partition: Partition) -> tuple[Method, Any]:
    section = config["method"]
    make = function_of("method", section["name"], sparsity.methods)
    settings = {key: value for key, value in section.items() if key != "name"}
    method = call(f"the method {section['name']!r}", make, partition, settings=settings)
    penalty = config["penalty"]
    refusals.refuse_penalty(penalty)
    if penalty["name"] == "none":
        return method, None
    q = _q(penalty)
    if penalty["form"] == "proximal":
        return method, _prox(method, shapes, partition, q, penalty["strength"])
    return chain(method, penalised(partition, q, penalty["strength"], penalty["form"])), None


def _q(penalty: Mapping[str, Any]) -> Q:
    arguments = {"p": penalty["p"]} if penalty["name"] == "power" else {}
    return named_penalty(penalty["name"], **arguments)


def _prox(method: Method, shapes: Any, partition: Partition, q: Q, strength: float):
    """The proximal step on the trained tree, where the trained weights are the model's own."""
    state = jax.eval_shape(method.init, jax.random.key(0), shapes)
    if jax.tree.leaves(state.gates) or not method.absorbs_zero:
        raise ValueError(
            "a proximal penalty moves the model's own weights, and this method trains others in their "
            "place; take the form 'plain' or 'outer'"
        )
    step = proximal_step(partition, q, strength)
    jax.eval_shape(step, shapes, 0.0)  # refuses, before step 0, a penalty that has no such step
    return lambda tree, size: {**tree, "params": step(tree["params"], size)}


def begun(experiment: Experiment) -> TrainState:
    """The run's first state, on its devices."""
    key = jax.random.key(experiment.config["seed"])
    state = experiment.shared.programs.create(key, experiment.inputs)
    return state if experiment.placement.shares_weights else experiment.placement.put(state)


def feed(experiment: Experiment) -> Callable[..., Any]:
    """(step, batches=1) -> what the programs draw the batches of that many steps from."""
    config, sets = experiment.config, experiment.sets
    return feeding(sets, config["seed"], config["batch"], experiment.placement)


def _rules(section: Mapping[str, Any]) -> list[Rule]:
    read = lambda given: rules(
        "blocks.rules", "a rule of blocks", given, Rule, refusals.refuse_rule
    )
    return [*read(section["rules"]), *read([{"pattern": "*", "block": section["block"]}])]


def _frozen(section: Any) -> str:
    return json.dumps(section, sort_keys=True)
