"""Small runs on digits under any execution, for tests."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sparsity.data import load
from sparsity.plan.phases import parse
from sparsity.target import Target
from sparsity.train.execution import Execution
from sparsity.train.facts import facts
from sparsity.train.forward import linen
from sparsity.train.loop import Every, Run
from sparsity.train.objectives import cross_entropy
from sparsity.train.optimizer import clipped, coupled, optimizer
from sparsity.train.step import programs
from sparsity.units.blocks import Rule, blocks

STEPS = 60
# Unlike any width, so that no array of activations has the shape of a weight.
BATCH = 24
FIRST, SECOND = "params/first/kernel", "params/second/kernel"


class Net(nn.Module):
    """Two layers that are cut, one of them ragged, and a head."""

    @nn.compact
    def __call__(self, x, train=False):
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(36, name="first")(x))
        x = nn.relu(nn.Dense(32, use_bias=False, name="second")(x))
        return nn.Dense(10, name="head")(x)


@functools.cache
def data():
    """The training digits on the device: images, labels."""
    train = load("digits", split="train")
    images = train.images.astype(np.float32)
    return jax.device_put((images / images.max(), train.labels.astype(np.int32)))


def draw(source, step, key):
    images, labels = source
    rows = jax.random.randint(key, (BATCH,), 0, images.shape[0])
    return {"image": images[rows], "label": labels[rows]}


def setting(make, plan, mode, *, net=None, rules=(), density="0.25", options=None, **optimiser):
    """(run, its records) of a method under a plan and an execution."""
    model, image = linen(net or Net()), data()[0][:1]
    shapes, mutable = jax.eval_shape(model.init, jax.random.key(0), image)
    layers = blocks(shapes, [*rules, Rule("*", (8, 8))], density=density, at_least=1)
    target = Target.of(layers)
    method = make(target.partition, **(options or {}))
    settings = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
    settings |= optimiser
    tx = optimizer(steps=STEPS, **settings)
    run_by = Execution(
        mode,
        model.sites(shapes, mutable, image),
        batch=BATCH,
        platform="cpu",
        coupled=coupled(settings["name"], settings.get("prox")),
        clipped=clipped(settings.get("clip"), settings.get("accumulate", 1)),
        facts=facts(method, target.partition, shapes),
    )
    made = programs(model, method, target.partition, tx, draw, cross_entropy(), run_by)
    parsed = parse(plan, steps=STEPS, steps_per_epoch=10)
    records: list = []
    evaluated = {"accuracy": 0.0}
    run = Run(
        programs=made,
        plan=parsed,
        target=target,
        source=lambda step: data(),
        evaluate=lambda state, context: evaluated,
        emit=records.append,
        every=Every(log=10),
    )
    return run, records


def fresh(run, seed=1):
    """A state that a run begins with."""
    return run.programs.create(jax.random.key(seed), data()[0][:1])


def losses(records):
    """The logged losses, in order."""
    return jnp.array([record["loss"] for record in records if record["event"] == "train"])
