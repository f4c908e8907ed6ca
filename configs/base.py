"""Every field of an experiment, with its default and a comment; other configs hold only the differences.

A config file takes an argument behind a colon that selects the sections, for example
`--config=configs/digits.py:grid,plan=acdc`: the method, and `plan=`, `model=` or `optimizer=` names. A
section's fields are the keyword arguments of the function it names, with their defaults, so that
`--config.method.mask=softmax` overrides one and a misspelt one is refused.
"""

import inspect
import typing
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

import sparsity.methods
from sparsity.models import registry
from sparsity.named import choose, function_of, unknown
from sparsity.plan import plans
from sparsity.train.optimizer import optimizer

# What each method is usually run with; any other plan can be named.
PLANS = {
    "dense": "dense",
    "random": "static",
    "magnitude": "gradual",
    "powerprop": "one_shot",
    "sequential_attention": "sequential_attention",
    "grid": "gradual",
}
# Each optimiser with the learning rate to begin from.
RATES = {
    "sgd": 0.1,
    "adam": 1e-3,
    "adamw": 1e-3,
    "rmsprop": 1e-3,
    "lion": 1e-4,
    "adafactor": 1e-3,
    "lamb": 1e-3,
}
PLAN_NAMES = {
    function.__name__: function
    for function in (
        plans.dense,
        plans.static,
        plans.one_shot,
        plans.gradual,
        plans.acdc,
        plans.sequential_attention,
        plans.phases,
    )
}


def base(
    argument: str = "",
    *,
    method: str = "magnitude",
    plan: str = "",
    model: str = "mlp",
    optimiser: str = "sgd",
) -> ConfigDict:
    """The config of an experiment; `argument` is what stands behind the colon."""
    chosen = _argument(
        argument, {"method": method, "plan": plan, "model": model, "optimizer": optimiser}
    )
    method, model = chosen["method"], chosen["model"]
    make = function_of("method", method, sparsity.methods)
    plan = chosen["plan"] or PLANS.get(method, "gradual")
    config = ConfigDict()

    config.seed = 0  # of the parameters, the order of the data and every draw
    config.steps = 1000  # optimiser steps of the whole run, all phases included
    config.batch = 128
    config.device = ""  # cpu, gpu or tpu; "" takes the best there is
    config.devices = 1  # how many of them share the run: its batches, unless `mesh` says otherwise
    config.mesh = ConfigDict()
    config.mesh.fsdp = 1  # of them, that share the weights and their moments beside the batches
    config.mesh.model = 1  # of them, that share the weights' columns or rows in place of batches
    config.mesh.rules = ()  # mappings with the fields of train.sharding.Rule; the first match wins
    config.execution = "masked"  # or sparse: live blocks alone where masks are fixed; or auto
    config.density = "0.1"  # share of blocks kept, an exact decimal; a sparsity of 90% is 0.1

    config.data = ConfigDict()
    config.data.name = (
        "digits"  # of data/datasets.py, a table (adult, criteo), tfds:NAME, folder:NAME
    )
    config.data.root = ""  # folder of the data sets; "" takes $SPARSITY_DATA
    config.data.validation = (
        0.0  # share cut from the training set, evaluated in place of the test set
    )
    config.data.augment = False  # random crop and flip
    config.data.stream = False  # read batch by batch on the host, for what the device cannot hold
    config.data.side = 224  # of the square that a streamed picture is cut to
    config.data.workers = 16  # threads that read streamed pictures ahead, in each process
    config.data.processes = 0  # that read them; 0: the run's own, enough for some thousand a second
    config.data.undecodable = 0  # streamed pictures a split may have that cannot be decoded

    config.model = _section(model, _plain(registry.options(model)))

    config.blocks = ConfigDict()
    config.blocks.block = (8, 8)  # (rows, cols) entries per block
    config.blocks.at_least = 100  # layers of fewer blocks stay dense
    config.blocks.rules = ()  # mappings with the fields of units.blocks.Rule; the first match wins

    config.method = _section(method, _defaults(make))
    config.plan = _section(plan, _defaults(choose("plan", plan, PLAN_NAMES)))

    config.penalty = ConfigDict()
    config.penalty.name = (
        "none"  # identity (group lasso), power, log1p or lambert, of the blocks' norms
    )
    config.penalty.strength = 0.0
    config.penalty.form = (
        "plain"  # plain, outer (q^-1 of the sum), or proximal (a step, not a loss)
    )
    config.penalty.p = 0.5  # exponent of power

    fields = _defaults(optimizer, without=("steps", "prox"))
    config.optimizer = _section(chosen["optimizer"], fields)
    config.optimizer.learning_rate = choose("optimizer", chosen["optimizer"], RATES)
    if chosen["optimizer"] == "sgd":
        config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    config.label_smoothing = 0.0
    config.settle = 0  # batches that recompute batch statistics after a mask change

    config.log_every = 50  # steps between logged means; 0: at the end only
    config.evaluate_every = 0
    config.save_every = 0  # steps between checkpoints
    return config


def _section(name: str, fields: dict[str, Any]) -> ConfigDict:
    return ConfigDict({**fields, "name": name})


def _defaults(function: Callable[..., Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keyword arguments of a function; an optional one is a placeholder of its type."""
    hints = typing.get_type_hints(function)
    return {
        name: _optional(hints.get(name)) if p.default in (None, p.empty) else p.default
        for name, p in inspect.signature(function).parameters.items()
        if name not in ("partition", *without)
    }


def _optional(hint: Any) -> Any:
    kinds = [kind for kind in typing.get_args(hint) if kind in (int, float, str, bool)]
    return placeholder(kinds[0]) if kinds else None


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Types of computation by their names, so that a config is plain data."""
    return {
        k: jnp.dtype(v).name if isinstance(v, type(jnp.float32)) else v for k, v in fields.items()
    }


def _argument(text: str, chosen: dict[str, str]) -> dict[str, str]:
    """ "grid,plan=acdc" over the defaults: a bare word is the method."""
    for word in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = word.rpartition("=")
        if (key or "method") not in chosen:
            raise unknown("part of a config's argument", key, chosen)
        chosen[key or "method"] = value
    return chosen
