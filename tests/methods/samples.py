"""A small parameter tree with one of everything, its blocks, and the methods that are tested on it."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from sparsity.contract import Context, Method, Signals, chain
from sparsity.families import decayed, gated, penalised
from sparsity.gates import hoff
from sparsity.methods.dense import dense
from sparsity.methods.grid import grid
from sparsity.methods.magnitude import magnitude
from sparsity.methods.powerprop import powerprop
from sparsity.methods.random import random
from sparsity.methods.sequential_attention import sequential_attention
from sparsity.penalties import log1p
from sparsity.plan.phases import Kind
from sparsity.units.blocks import Rule, blocks, densities, partition_of
from sparsity.units.masks import counts
from sparsity.units.partition import Partition

SHAPES = {
    "conv": {"kernel": (3, 3, 4, 6), "bias": (6,)},
    "norm": {"scale": (6,), "bias": (6,)},
    "embed": {"embedding": (11, 6)},
    "stack": {"kernel": (2, 8, 6), "bias": (2, 6)},
    "attention": {"query": {"kernel": (6, 2, 4), "bias": (2, 4)}},
    "layers": [{"kernel": (10, 7), "bias": (7,)}, {"kernel": (7, 9)}],
    "head": {"kernel": (6, 3), "bias": (3,)},
}
# Ragged wherever it can be.
RULES = (
    Rule("params/head/*"),
    Rule("params/conv/kernel", (4, 4)),
    Rule("params/stack/kernel", (3, 4), batch=(0,), density="0.7"),
    Rule("params/layers/1/kernel", (4, 2), density="0.25"),
    Rule("params/attention/query/kernel", (2, 4)),
)
LAYERS = blocks(
    jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        {"params": SHAPES},
        is_leaf=lambda x: isinstance(x, tuple),
    ),
    RULES,
    density="0.4",
    at_least=2,
)
PARTITION: Partition = partition_of(LAYERS)
DENSITIES = densities(LAYERS)

METHODS = {
    "dense": dense(PARTITION),
    "random": random(PARTITION),
    "magnitude": magnitude(PARTITION),
    "magnitude of l1, globally": magnitude(PARTITION, score="l1", select="globally", floor=2),
    "fisher": magnitude(PARTITION, score="fisher", batches=2),
    "powerprop by block, 1.5": powerprop(PARTITION, alpha=1.5, score="max"),
    "powerprop by weight": powerprop(PARTITION, form="weight", alpha=3.0),
    "sequential attention": sequential_attention(PARTITION),
    "sequential attention, clipped": sequential_attention(PARTITION, clip=True),
    "sigmoid with fisher": grid(PARTITION, mask="sigmoid", score="fisher"),
    "exponential, l1, globally": grid(PARTITION, mask="exponential", score="l1", select="globally"),
    "hoff, decayed": decayed(gated(PARTITION, hoff()), PARTITION, 1e-3),
    "powerprop and a penalty": chain(powerprop(PARTITION), penalised(PARTITION, log1p, 1e-3)),
}
# What starts at a root of the weights, and comes back to them within rounding.
ROOTS = {name for name in METHODS if "powerprop" in name}
# What prunes; its masks are laws for the others to keep.
PRUNES = [name for name in METHODS if name != "dense"]
# What has one count for all groups, not one for each.
GLOBAL = {name for name in METHODS if "globally" in name}


def tree(seed: int = 0, dtype=jnp.float32, change=lambda x: x):
    """Normal draws of the shapes above, as the variables dict that methods see."""
    numbers = np.random.default_rng(seed)
    draw = lambda shape: jnp.asarray(change(numbers.normal(size=shape)), dtype)
    return {"params": jax.tree.map(draw, SHAPES, is_leaf=lambda x: isinstance(x, tuple))}


def signals(seed: int = 1) -> Signals:
    """Gradients as a tick would bring them."""
    return Signals(tree(seed), tree(seed + 1, change=np.square))


def keep(share: str = "1") -> dict[str, int]:
    """Units that stay per group and index at a share of the target sparsity."""
    return counts(PARTITION, DENSITIES, Fraction(share))


def context(kind: str = "sparse", share: str = "1", regrow: bool = True) -> Context:
    """A context of the partition, its counts int32 arrays."""
    arrays = functools.partial(jax.tree.map, jnp.int32)
    return Context(
        Kind(kind), 0.5, arrays(keep(share)), arrays(keep()), jnp.bool_(regrow), jax.random.key(5)
    )


@functools.cache
def compiled(name: str):
    """(init, apply, update, masks) of a method, jitted, and the number of their traces by verb."""
    method: Method = METHODS[name]
    traces = dict.fromkeys(("init", "apply", "update", "masks"), 0)

    def counted(verb, function):
        def call(*args):
            traces[verb] += 1
            return function(*args)

        return jax.jit(call)

    init = counted("init", method.init)
    apply = counted("apply", lambda state, at: method.apply(state, at).params)
    update = counted("update", method.update)
    masks = counted("masks", method.masks)
    return init, apply, update, masks, traces


def equal(a, b) -> bool:
    """Whether two trees are the same in structure, types and bits."""
    same = lambda x, y: x.dtype == y.dtype and np.array_equal(np.asarray(x), np.asarray(y))
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        map(same, jax.tree.leaves(a), jax.tree.leaves(b))
    )
