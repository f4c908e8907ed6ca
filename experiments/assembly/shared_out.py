"""How a config shares a run's weights out over its devices."""

from collections.abc import Mapping
from typing import Any

from experiments.assembly.placement import Placement
from experiments.assembly.planned import tuples
from sparsity.named import call
from sparsity.train.sharding import Layout, Rule, layout
from sparsity.units.partition import Partition


def shared_out(
    config: Mapping[str, Any], place: Placement, partition: Partition, params: Any
) -> Layout | None:
    """The layout of a config's section `mesh`; None where every device has every weight.

    Raises ValueError for rules that are none, or that share nothing out.
    """
    given = config["mesh"]["rules"]
    if type(given) not in (list, tuple):
        raise ValueError(f"mesh.rules is a list of mappings, not {given!r}")
    rules = [_rule(fields) for fields in given]
    if not place.shares_weights:
        if rules:
            raise ValueError(
                "mesh.rules say how weights are shared out, but mesh.fsdp and mesh.model are 1: no device "
                "shares them"
            )
        return None
    return layout(place.mesh, partition, params, rules)


def _rule(fields: Any) -> Rule:
    if not hasattr(fields, "keys"):
        raise ValueError(
            f"a rule of mesh.rules is a mapping with {', '.join(Rule._fields)}, not {fields!r}"
        )
    settings = tuples(fields)
    if type(settings.get("axes")) is not tuple:
        raise ValueError(
            f"a rule of mesh.rules has in `axes` one axis of the mesh, or None, per axis of a weight, not "
            f"{settings.get('axes')!r}"
        )
    return call("a rule of mesh.rules", Rule, settings=settings)
