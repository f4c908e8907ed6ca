"""Which axes of a mesh an array varies over, inside shard_map."""

from typing import Any

import jax
from jax import lax


def varying(x: Any) -> frozenset[str]:
    """The manual mesh axes that an array, or its type, varies over; none outside shard_map."""
    aval: Any = x if isinstance(x, jax.core.ShapedArray) else jax.typeof(x)
    found = getattr(aval, "manual_axis_type", None)  # its name from jax 0.10.2 on
    return getattr(aval, "vma", frozenset()) if found is None else found.varying


def vary_like(x: jax.Array, axes: frozenset[str]) -> jax.Array:
    """x as varying over `axes` too. The cast's transpose is the sum over devices."""
    missing = tuple(sorted(axes - varying(x)))
    return lax.pcast(x, missing, to="varying") if missing else x


def vary_alike(tree: Any) -> Any:
    """Every leaf as varying over each axis that one of them varies over.

    What a custom_vjp gives back has to vary as what it got, so that without this the gradient of a
    replicated weight is refused.
    """
    every = frozenset().union(*(varying(leaf) for leaf in jax.tree.leaves(tree)))
    return jax.tree.map(lambda leaf: vary_like(leaf, every), tree)
