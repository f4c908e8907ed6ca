"""The networks that masks are measured on, ready to make the programs of any method."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparsity import models
from sparsity.contract import Context, Method
from sparsity.methods.dense import dense
from sparsity.methods.magnitude import magnitude
from sparsity.methods.sequential_attention import sequential_attention
from sparsity.plan.phases import Kind, Phase
from sparsity.target import Target, context_of
from sparsity.train.execution import MASKED, Execution
from sparsity.train.facts import facts
from sparsity.train.forward import Model, linen
from sparsity.train.objectives import cross_entropy
from sparsity.train.optimizer import optimizer
from sparsity.train.step import Programs, programs
from sparsity.units.blocks import Rule, blocks
from sparsity.units.partition import leaves


class Net(NamedTuple):
    """A network: its name in the registry with settings, its images, its batch, the side of its blocks.

    masked, soft: bounds of a masked and of a soft step, in dense steps; None is no bound.
    steps:        of the whole plans that are run; 0 for none.
    """

    name: str
    settings: Mapping[str, Any]
    image: tuple[int, int, int]
    batch: int
    block: int
    masked: float | None
    soft: float | None
    steps: int = 0


_MLP = Net("mlp", {"widths": (1024, 1024)}, (28, 28, 1), 512, 32, 1.03, 1.12, steps=150)
NETS: Mapping[str, Net] = {
    "mlp-512": _MLP,
    "mlp-128": _MLP._replace(batch=128, masked=None, soft=None, steps=0),
    "resnet20-64": Net("resnet20", {}, (32, 32, 3), 64, 8, 1.03, 1.06),
    "vit-64": Net("vit", {}, (32, 32, 3), 64, 16, 1.03, 1.06),
}
METHODS: Mapping[str, Callable[..., Method]] = {
    f.__name__: f for f in (dense, magnitude, sequential_attention)
}
DENSITY = "0.1"


class Bench(NamedTuple):
    """A network with what every program of it is called with.

    image: a batch of one, for the shapes. batch: the batch that every step trains on, on the device.
    """

    net: Net
    model: Model
    shapes: Any
    target: Target
    image: jax.Array
    batch: dict[str, jax.Array]

    @property
    def parameters(self) -> int:
        """Numbers that the bare network trains."""
        return sum(leaf.size for leaf in leaves(self.shapes).values())

    @property
    def title(self) -> str:
        """The network in words."""
        net, side = self.net, f"{self.net.block}x{self.net.block}"
        sizes = f"{self.parameters:,} parameters, batch {net.batch}"
        return f"{net.name}, {sizes}, {side} blocks at a density of {DENSITY}"


def bench_of(net: Net, seed: int) -> Bench:
    """The bench of a network; noise is trained on, as no figure here depends on what the images show."""
    model = linen(models.build(net.name, classes=10, **net.settings))
    image = jnp.zeros((1, *net.image))
    shapes, _ = jax.eval_shape(model.init, jax.random.key(0), image)
    rule = Rule("*", (net.block, net.block))
    target = Target.of(blocks(shapes, [rule], density=DENSITY, at_least=16))
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(net.batch, *net.image)).astype(np.float32)
    labels = rng.integers(0, 10, net.batch).astype(np.int32)
    batch = jax.device_put({"image": images, "label": labels})
    return Bench(net, model, shapes, target, image, batch)


def made(bench: Bench, method: str, mode: str = "masked") -> Programs:
    """Fresh programs of a method by its name, none of them compiled; mode: how fixed masks are run."""
    tx = optimizer(name="sgd", learning_rate=0.1, steps=1000, momentum=0.9, weight_decay=1e-4)
    chosen = METHODS[method](bench.target.partition)
    draw = lambda source, step, key: source
    run_by = MASKED if mode == "masked" else _execution(bench, chosen, mode)
    return programs(bench.model, chosen, bench.target.partition, tx, draw, cross_entropy(), run_by)


def _execution(bench: Bench, method: Method, mode: str) -> Execution:
    _, mutable = jax.eval_shape(bench.model.init, jax.random.key(0), bench.image)
    return Execution(
        mode,
        bench.model.sites(bench.shapes, mutable, bench.image),
        bench.net.batch,
        platform=jax.default_backend(),
        facts=facts(method, bench.target.partition, bench.shapes),
    )


def context(bench: Bench, kind: Kind) -> Context:
    """A context of a kind of phase, with the counts of the plan's end."""
    return context_of(bench.target, Phase(kind, 1))
