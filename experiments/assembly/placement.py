"""Which devices a run computes on: one, or several that share each batch."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

PLATFORMS = ("cpu", "gpu", "tpu")


class Placement(NamedTuple):
    """A mesh of the axis "data", over which the rows of a batch lie; the rest is on every device."""

    mesh: Mesh

    def put(self, tree: Any) -> Any:
        """The tree's arrays on every device."""
        if self.mesh.size == 1:
            return jax.device_put(tree, self.mesh.devices.item())
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        if everywhere.is_fully_addressable:
            return jax.device_put(tree, everywhere)
        return jax.tree.map(lambda x: _everywhere(x, everywhere), tree)

    @property
    def part(self) -> tuple[int, int]:
        """(index, count): which of how many equal parts of a batch's rows this process feeds."""
        if self.mesh.size == 1:
            return 0, 1
        rows = NamedSharding(self.mesh, PartitionSpec("data"))
        total = self.mesh.shape["data"]
        held = rows.addressable_devices_indices_map((total,)).values()
        places = sorted({place.indices(total)[0] for (place,) in filter(None, held)})
        return places[0] // len(places), total // len(places)

    def split(self, batch: Any) -> Any:
        """The rows of a batch's arrays, shared out; called inside a jitted program."""
        if self.mesh.size == 1:
            return batch
        rows = NamedSharding(self.mesh, PartitionSpec("data"))
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, rows), batch)

    def rows(self, tree: Any, axis: int) -> Any:
        """The global arrays whose rows, along an axis, are those of every process's arrays in turn."""
        if self.mesh.size == 1:
            return jax.device_put(tree, self.mesh.devices.item())
        rows = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, "data"))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(rows, x), tree)


def _everywhere(x: Any, sharding: NamedSharding) -> jax.Array:
    """An array that every process has, as one of them all; they exchange nothing, so threads may do it."""
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return jax.device_put(x, sharding)
    return jax.make_array_from_process_local_data(sharding, np.asarray(x), np.shape(x))


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
    chosen = _chosen(found, count)
    if batch % count:
        lower = batch // count * count
        raise ValueError(
            f"a batch of {batch} does not divide over {count} devices; take {lower or count} or "
            f"{lower + count}"
        )
    mesh = jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=chosen)
    return Placement(mesh)


def _chosen(found: list[jax.Device], count: int) -> list[jax.Device]:
    """The first `count` devices; of several processes, as many of each."""
    processes = jax.process_count()
    see = "this process sees" if processes == 1 else f"{processes} processes see"
    if not 1 <= count <= len(found):
        raise ValueError(
            f"devices is {count}, but {see} {len(found)} of {found[0].platform}; take as many"
        )
    each = [[d for d in found if d.process_index == i] for i in range(processes)]
    if count % processes or count // processes > min(map(len, each)):
        raise ValueError(
            f"devices is {count}, of which each of {processes} processes has to have as many, and they have "
            f"{', '.join(str(len(own)) for own in each)}; take {processes * min(map(len, each))}"
        )
    return [device for own in each for device in own[: count // processes]]
