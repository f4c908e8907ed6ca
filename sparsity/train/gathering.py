"""Weights that lie in parts along "fsdp": whole where a step multiplies by them, in parts again as gradients.

Left alone, the compiler plans what crosses between devices by its own reckoning. Where a device has few rows of a
batch it sends activations to the parts of a weight, so that every device computes all rows, which is what the
axis "model" is for.
"""

import functools
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from sparsity.train.forward import Model
from sparsity.train.sharding import FSDP, Layout
from sparsity.units.partition import path_of

Tree = Any


def gathering(model: Model, lies: Layout) -> Model:
    """The model, run with parameters that are gathered."""

    def apply(params: Tree, *rest: Any) -> tuple[jax.Array, Any]:
        return model.apply(gathered(lies, params), *rest)

    return model._replace(apply=apply)


def gathered(lies: Layout, params: Tree) -> Tree:
    """The parameters, none of them in parts along "fsdp"; differentiable, called inside a jitted program."""

    def each(keys: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        parts = lies.params[path_of(keys)]
        return _gathered(parts, leaf) if FSDP in parts.spec else leaf

    return jax.tree_util.tree_map_with_path(each, params)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered(parts: NamedSharding, leaf: jax.Array) -> jax.Array:
    spec = PartitionSpec(*(None if axis == FSDP else axis for axis in parts.spec))
    return jax.lax.with_sharding_constraint(leaf, NamedSharding(parts.mesh, spec))


# The transpose of a constraint is the same constraint: the gradient would be whole on every device.
_gathered.defvjp(
    lambda parts, leaf: (_gathered(parts, leaf), None),
    lambda parts, _, gradient: (jax.lax.with_sharding_constraint(gradient, parts),),
)
