"""How a config shares a run's weights out over its devices."""

from collections.abc import Mapping
from typing import Any

from experiments.assembly.placement import Placement
from experiments.assembly.rules import rules
from sparsity.train.sharding import Layout, Rule, layout
from sparsity.units.partition import Partition


def shared_out(
    config: Mapping[str, Any], place: Placement, partition: Partition, params: Any
) -> Layout | None:
    """The layout of a config's section `mesh`; None where every device has every weight.

    Raises ValueError for rules that are none, or that share nothing out.
    """
    given = config["mesh"]["rules"]
    asked = rules("mesh.rules", "a rule of mesh.rules", given, Rule, _refuse)
    if not place.shares_weights:
        if asked:
            raise ValueError(
                "mesh.rules say how weights are shared out, but mesh.fsdp and mesh.model are 1: no device "
                "shares them"
            )
        return None
    return layout(place.mesh, partition, params, asked)


def _refuse(rule: Mapping[str, Any]) -> None:
    """Axes that are no list."""
    if type(rule.get("axes")) is not tuple:
        raise ValueError(
            f"a rule of mesh.rules has in `axes` one axis of the mesh, or None, per axis of a weight, not "
            f"{rule.get('axes')!r}"
        )
