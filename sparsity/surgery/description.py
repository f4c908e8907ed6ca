"""The text beside a model's weights: which units of which group are alive, as plain JSON data.

A mask is written as hexadecimal digits: unit i, in C order over the grid, is the bit 7 - i % 8 of byte
i // 8; the bits after the last unit are 0.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np

from sparsity.named import unknown
from sparsity.units.partition import Group, Partition, Tree, View, leaves, pool, tiles

Masks = dict[str, np.ndarray]


def described(
    partition: Partition, masks: Masks, asked: Mapping[str, Fraction]
) -> dict[str, dict[str, Any]]:
    """What `groups_of` reads, with the counts and densities for people; densities are exact."""
    return {
        name: {
            "grid": list(group.grid),
            "batch": group.batch,
            "views": [_view_as_data(view) for view in group.gated],
            "units": masks[name].size,
            "alive": int(masks[name].sum()),
            "mask": np.packbits(masks[name]).tobytes().hex(),
            "asked": str(asked[name]) if name in asked else None,
            "achieved": str(Fraction(int(masks[name].sum()), masks[name].size)),
        }
        for name, group in partition.items()
    }


def groups_of(data: Mapping[str, Any]) -> tuple[dict[str, Group], Masks]:
    """The partition and the masks of `described`; ValueError that names the group for anything else."""
    partition, masks = {}, {}
    for name, entry in data.items():
        try:
            grid = _ints(entry["grid"])
            views = tuple(_view(view, grid) for view in entry["views"])
            partition[name] = Group(grid, views, batch=_ints([entry["batch"]])[0])
            masks[name] = _mask(entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"the group {name!r} is not described as it should be: {error}"
            ) from None
    return partition, masks


def whole_masks(partition: Partition, masks: Mapping[str, Any]) -> Masks:
    """A bool array per group; groups without a mask are alive.

    Raises ValueError for a mask of an unknown group, of another shape or of other values than 0 and 1.
    """
    for name in masks:
        if name not in partition:
            raise unknown("group", name, partition)
    found = {
        name: np.asarray(masks.get(name, np.ones(group.grid, bool)))
        for name, group in partition.items()
    }
    for name, mask in found.items():
        if mask.shape != partition[name].grid or not np.isin(mask, (0, 1)).all():
            raise ValueError(
                f"the mask of {name!r} has shape {mask.shape}: expected 0 and 1 of {partition[name].grid}"
            )
    return {name: mask.astype(bool) for name, mask in found.items()}


def refuse_live(partition: Partition, masks: Masks, params: Tree) -> None:
    """Raises ValueError where a dead unit holds a weight that is not 0, or a view doesn't fit its leaf."""
    found = leaves(params)
    for view in (view for group in partition.values() for view in group.gated):
        if view.path not in found or math.prod(view.shape) != np.size(found[view.path]):
            raise ValueError(f"no weight of {math.prod(view.shape)} entries at {view.path!r}")
    paths = [view.path for group in partition.values() for view in group.gated]
    used = {path: jnp.asarray(found[path] != 0, jnp.float32) for path in paths}
    for name, most in pool(partition, used, jnp.max).items():
        wrong = int(np.sum((np.asarray(most) > 0) & ~masks[name]))
        if wrong:
            raise ValueError(f"{wrong} dead units of {name!r} hold weights that are not 0")


def _view_as_data(view: View) -> dict[str, Any]:
    return {**view._asdict(), "axes": [list(run) for run in view.axes]}


def _view(data: Mapping[str, Any], grid: tuple[int, ...]) -> View:
    shape, block, start = (_ints(data[key]) for key in ("shape", "block", "start"))
    axes = tuple(_ints(run) for run in data["axes"])
    view = View(str(data["path"]), shape, axes, block, start)
    merged = [axis for run in axes for axis in run]
    once = len(set(merged)) == len(merged) and all(axis < len(shape) for axis in merged)
    if not once or not len(axes) == len(block) == len(grid) or 0 in block:
        raise ValueError(f"{view} doesn't read a weight as {grid}")
    ends = zip(start or (0,) * len(grid), tiles(view), grid, strict=True)
    if any(first + units > size for first, units, size in ends):
        raise ValueError(f"{view} lies outside of {grid}")
    return view


def _ints(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
        raise ValueError(f"expected a list of numbers, not {values!r}")
    return tuple(values)


def _mask(entry: Mapping[str, Any]) -> np.ndarray:
    grid = _ints(entry["grid"])
    size = math.prod(grid)
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(entry["mask"]), np.uint8))
    if len(bits) != 8 * -(-size // 8) or bits[size:].any():
        raise ValueError(f"a mask of {len(bits)} bits for {size} units")
    if (alive := int(bits.sum())) != entry["alive"]:
        raise ValueError(f"{alive} units are alive in its mask, not {entry['alive']}")
    return bits[:size].astype(bool).reshape(grid)
