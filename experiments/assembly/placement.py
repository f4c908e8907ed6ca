"""Which devices a run computes on: one, or several that share each batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

PLATFORMS = ("cpu", "gpu", "tpu")


class Placement(NamedTuple):
    """A mesh of the axis "data", over which the rows of a batch lie; the rest is on every device.

    here: False where the devices are only described, for a compiler: then shapes stand for what lies on them.
    """

    mesh: Mesh
    here: bool = True

    def put(self, tree: Any) -> Any:
        """The tree's arrays on every device."""
        if not self.here:
            return self._described(tree, PartitionSpec())
        if self.mesh.size == 1:
            return jax.device_put(tree, self.mesh.devices.item())
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def _described(self, tree: Any, spec: PartitionSpec) -> Any:
        lie = NamedSharding(self.mesh, spec)
        shape = lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=lie)
        return jax.tree.map(shape, tree)

    def split(self, batch: Any) -> Any:
        """The rows of a batch's arrays, shared out; called inside a jitted program."""
        if self.mesh.size == 1:
            return batch
        rows = NamedSharding(self.mesh, PartitionSpec("data"))
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, rows), batch)

    def rows(self, tree: Any, axis: int) -> Any:
        """The global arrays whose rows, along an axis, are those of every process's arrays in turn."""
        if not self.here:
            return self._described(tree, PartitionSpec(*[None] * axis, "data"))
        if self.mesh.size == 1:
            return jax.device_put(tree, self.mesh.devices.item())
        rows = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, "data"))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(rows, x), tree)


def placement(platform: str, count: int, batch: int) -> Placement:
    """The first `count` devices of a platform ("" takes the best there is).

    Raises ValueError for a platform that is unknown or not here, too few devices, and a batch that they
    do not divide.
    """
    if platform not in ("", *PLATFORMS):
        raise ValueError(
            f"device is one of {', '.join(PLATFORMS)}, or '' for the best there is, not {platform!r}"
        )
    try:
        found = jax.devices(platform or None)
    except RuntimeError:
        here = ", ".join(dict.fromkeys(device.platform for device in jax.devices()))
        raise ValueError(f"there is no {platform} here, only: {here}; set device to it") from None
    if not 1 <= count <= len(found):
        raise ValueError(
            f"devices is {count}, but this process sees {len(found)} of {found[0].platform}; take as many"
        )
    return shared(found[:count], batch)


def shared(devices: Sequence[Any], batch: int, here: bool = True) -> Placement:
    """These devices, each with as many rows of a batch. Raises ValueError where they do not divide it."""
    count = len(devices)
    if batch % count:
        lower = batch // count * count
        raise ValueError(
            f"a batch of {batch} does not divide over {count} devices; take {lower or count} or "
            f"{lower + count}"
        )
    mesh = jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=devices)
    return Placement(mesh, here)
