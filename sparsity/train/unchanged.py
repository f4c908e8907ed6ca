"""Which trained entries belong to units that a tick leaves as they were."""

from typing import Any

import jax
import jax.numpy as jnp

from sparsity.units.partition import Partition, Units, path_of, replaced, spread


def unchanged(partition: Partition, old: Units, new: Units, tree: dict[str, Any]) -> dict[str, Any]:
    """1 for every trained entry but those of units that were just pruned or regrown."""
    same = {name: old[name] == new[name] for name in new}
    ones = jax.tree.map(lambda leaf: jnp.ones((), bool), tree)
    params = replaced(ones["params"], spread(partition, same, tree["params"]))
    return {"params": params, "gates": _gates_unchanged(ones["gates"], same)}


def _gates_unchanged(gates: Any, same: Units) -> Any:
    """Gates are named after their groups, wherever a chain has put them."""

    def of(keys: tuple[Any, ...], one: jax.Array) -> jax.Array:
        return same.get(path_of(keys[-1:]), one) if keys else one

    return jax.tree_util.tree_map_with_path(of, gates)
