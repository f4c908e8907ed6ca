"""Which devices a run computes on: one, or several that share its batches, its weights, or both."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sparsity.train.sharding import AXES, ROWS

PLATFORMS = ("cpu", "gpu", "tpu")


class Placement(NamedTuple):
    """A mesh of the axes of `train.sharding`: rows of a batch lie over two of them, weights over two.

    What the methods place lies whole on every device, or by its rows. here: False where the devices are only
    described, for a compiler: then shapes stand for what lies on them.
    """

    mesh: Mesh
    here: bool = True

    @property
    def rows_over(self) -> int:
        """Devices, or groups of them, that share the rows of a batch."""
        return self.mesh.size // self.mesh.shape["model"]

    @property
    def shares_weights(self) -> bool:
        """Whether a weight may lie on several devices in parts."""
        return self.mesh.shape["fsdp"] * self.mesh.shape["model"] > 1

    @property
    def part(self) -> tuple[int, int]:
        """(index, count): which of how many equal parts of a batch's rows this process feeds."""
        over, found = NamedSharding(self.mesh, ROWS), {}
        if over.is_fully_addressable or not self.here:
            return 0, 1
        for device, (rows,) in over.devices_indices_map((self.rows_over,)).items():
            found.setdefault(device.process_index, set()).add(rows.indices(self.rows_over)[0])
        # Processes that share a weight by its columns feed the same rows.
        parts = sorted({tuple(sorted(rows)) for rows in found.values()})
        return parts.index(tuple(sorted(found[jax.process_index()]))), len(parts)

    def put(self, tree: Any) -> Any:
        """The tree's arrays on every device."""
        if not self.here:
            return self._described(tree, PartitionSpec())
        if self.mesh.size == 1:
            return jax.device_put(tree, self.mesh.devices.item())
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        if everywhere.is_fully_addressable:
            return jax.device_put(tree, everywhere)
        return jax.tree.map(lambda x: _everywhere(x, everywhere), tree)

    def _described(self, tree: Any, spec: PartitionSpec) -> Any:
        lie = NamedSharding(self.mesh, spec)
        shape = lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=lie)
        return jax.tree.map(shape, tree)

    def split(self, batch: Any) -> Any:
        """The rows of a batch's arrays, shared out; called inside a jitted program."""
        if self.mesh.size == 1:
            return batch
        rows = NamedSharding(self.mesh, ROWS)
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, rows), batch)

    def rows(self, tree: Any, axis: int) -> Any:
        """The global arrays whose rows, along an axis, are those of every process's arrays in turn."""
        spec = PartitionSpec(*[None] * axis, *ROWS)
        if not self.here:
            return self._described(tree, spec)
        if self.mesh.size == 1:
            return jax.device_put(tree, self.mesh.devices.item())
        rows = NamedSharding(self.mesh, spec)
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(rows, x), tree)


def _everywhere(x: Any, sharding: NamedSharding) -> jax.Array:
    """An array that every process has, as one of them all; they exchange nothing, so threads may do it."""
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return jax.device_put(x, sharding)
    return jax.make_array_from_process_local_data(sharding, np.asarray(x), np.shape(x))


def placement(platform: str, count: int, batch: int, fsdp: int = 1, model: int = 1) -> Placement:
    """The first `count` devices of a platform ("" takes the best there is).

    fsdp, model: how many of them share weights, see `train.sharding`; count is a multiple of their product.

    Raises ValueError for a platform that is unknown or not here, too few devices, axes that do not divide
    them, and a batch that its shares do not divide.
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
    return shared(_chosen(found, count), batch, fsdp, model)


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


def shared(
    devices: Sequence[Any], batch: int, fsdp: int = 1, model: int = 1, here: bool = True
) -> Placement:
    """These devices, on a mesh whose other axis is what is left of them.

    Raises ValueError where the axes do not divide them, or they the rows of a batch.
    """
    count = len(devices)
    if count % (fsdp * model):
        raise ValueError(
            f"devices is {count}, which mesh.fsdp {fsdp} x mesh.model {model} do not divide; take "
            f"{math.lcm(count, fsdp * model)} devices, or other axes"
        )
    shares = count // model
    if batch % shares:
        lower = batch // shares * shares
        raise ValueError(
            f"a batch of {batch} does not divide over {shares} devices; take {lower or shares} or "
            f"{lower + shares}"
        )
    sizes = (count // (fsdp * model), fsdp, model)
    mesh = jax.make_mesh(sizes, AXES, (AxisType.Auto,) * len(AXES), devices=devices)
    return Placement(mesh, here)
