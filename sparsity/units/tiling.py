"""How one leaf is cut into units, as a reshape, a transpose and sums; and the same backwards.

Shards. Where the ends of units are ends of shards, nothing moves between devices. Elsewhere no array of
the leaf's size is gathered: the axis that may have to move is pooled last, so that what moves is already
pooled along the others. Where nothing says which axis is sharded (automatic axes) and neither axis
divides well, devices exchange the rims of blocks of the first. Two cases may gather the leaf: a view of
another shape than the leaf's that splits a sharded axis, and one where both grid axes merge axes that no
block divides. So may, under automatic axes, the gradient of `repeated` where neither axis divides well:
its sums are reshapes, as a window has no cheap transpose.
"""

import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class View(NamedTuple):
    """How one leaf is read as a grid of units.

    path:  the leaf's path, for example "params/conv1/kernel".
    shape: the shape in which the leaf is read before tiling (its own, or a reshape of it).
    axes:  per grid axis, the run of axes of `shape` that are merged into it, in this order.
           ((0, 1, 2), (3,)) reads a convolution HWIO as the matrix (H*W*I, O). Axes that stand in no
           run are pooled whole; an empty run is a single unit.
    block: entries per unit along each grid axis; the last unit may be ragged.
    start: index of the view's first unit along each grid axis (a concatenation); () is all zeros.
    """

    path: str
    shape: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]
    block: tuple[int, ...]
    start: tuple[int, ...] = ()


def tiles(view: View) -> tuple[int, ...]:
    """Units along each grid axis that the view covers (ragged ones count)."""
    extents = (math.prod(view.shape[a] for a in run) for run in view.axes)
    return tuple(-(-extent // block) for extent, block in zip(extents, view.block, strict=True))


def pooled(
    leaf: jax.Array, view: View, reduce: Callable[..., jax.Array], held: Collection[int] = ()
) -> jax.Array:
    """`reduce` (jnp.sum, or jnp.max of what is not negative) over each unit: shape `tiles(view)`.

    held: axes of the leaf that are known to be sharded.
    """
    alone, merged = _widths(view)
    x = leaf.reshape(view.shape)
    for axis in _order(x.shape, alone, held):
        x = _pool_axis(x, axis, alone[axis], reduce)
    x = x.transpose(_run_order(view)).reshape(_extents(view, alone))
    for axis in _order(x.shape, merged, _held_runs(view, held)):
        x = _pool_axis(x, axis, merged[axis], reduce)
    return x


def _pool_axis(x: jax.Array, axis: int, width: int, reduce: Callable[..., jax.Array]) -> jax.Array:
    if width == 1:
        return x
    if _splits(x.shape[axis], width):
        return _cut(x, axis, width, reduce)
    # A window where shards may not end with units: devices exchange rims of blocks, while a reshape
    # would gather the whole array.
    return _window(x, axis, width, lax.max) if reduce is jnp.max else _window_sum(x, axis, width)


def _cut(x: jax.Array, axis: int, width: int, reduce: Callable[..., jax.Array]) -> jax.Array:
    if ragged := -x.shape[axis] % width:
        x = jnp.pad(x, [(0, ragged if a == axis else 0) for a in range(x.ndim)])
    split = (*x.shape[:axis], x.shape[axis] // width, width, *x.shape[axis + 1 :])
    return reduce(x.reshape(split), axis=axis + 1)


def _window(x: jax.Array, axis: int, width: int, join: Callable[..., Any]) -> jax.Array:
    window = tuple(width if a == axis else 1 for a in range(x.ndim))
    pad = [(0, -x.shape[axis] % width if a == axis else 0) for a in range(x.ndim)]
    return lax.reduce_window(x, np.zeros((), x.dtype), join, window, window, pad)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _window_sum(x: jax.Array, axis: int, width: int) -> jax.Array:
    # As jnp.sum does it: 16 bits are summed in 32, and bools are counted.
    dtype = jax.eval_shape(jnp.sum, x).dtype
    small = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    total = _window(x.astype(jnp.float32 if small else dtype), axis, width, lax.add)
    return total.astype(dtype)


@_window_sum.defjvp
def _window_sum_jvp(axis, width, primals, tangents):
    # The same sum: its transpose repeats entries, that of a window adds `width` times too much.
    (x,), (tangent,) = primals, tangents
    return _window_sum(x, axis, width), _cut(tangent, axis, width, jnp.sum)


def repeated(
    units: jax.Array, view: View, shape: tuple[int, ...], held: Collection[int] = ()
) -> jax.Array:
    """Each unit's number wherever the unit lies, in the leaf's shape: `pooled` backwards."""
    axes, (alone, merged) = _run_order(view), _widths(view)
    wide, extents = units, _extents(view, alone)
    for axis in reversed(_order(extents, merged, _held_runs(view, held))):
        wide = _widened(wide, axis, merged[axis], extents[axis])
    wide = wide.reshape([-(-view.shape[a] // alone[a]) for a in axes])
    wide = wide.transpose([axes.index(a) for a in range(len(axes))])
    for axis in reversed(_order(view.shape, alone, held)):
        wide = _widened(wide, axis, alone[axis], view.shape[axis])
    return wide.reshape(shape)


def _widened(x: jax.Array, axis: int, width: int, extent: int) -> jax.Array:
    """Each entry along the axis `width` times, cut at `extent`."""
    if width == 1:
        return x
    tall = (*x.shape[: axis + 1], width, *x.shape[axis + 1 :])
    wide = jnp.broadcast_to(jnp.expand_dims(x, axis + 1), tall)
    wide = wide.reshape(*x.shape[:axis], x.shape[axis] * width, *x.shape[axis + 1 :])
    return lax.slice_in_dim(wide, 0, extent, axis=axis)


def _run_order(view: View) -> tuple[int, ...]:
    listed = [a for run in view.axes for a in run]
    return (*listed, *(a for a in range(len(view.shape)) if a not in listed))


def _widths(view: View) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How a unit is cut: along each axis of `shape` alone, then along each merged grid axis.

    A block that divides the fastest axis of its run lies inside that axis. Cutting it there leaves the
    leaf's other axes, and so their shards, where they are.
    """
    listed = [a for run in view.axes for a in run]
    alone = [1 if a in listed else n for a, n in enumerate(view.shape)]
    merged = list(view.block)
    for axis, (run, block) in enumerate(zip(view.axes, view.block, strict=True)):
        if run and (len(run) == 1 or view.shape[run[-1]] % block == 0):
            alone[run[-1]], merged[axis] = block, 1
    return tuple(alone), tuple(merged)


def _extents(view: View, alone: Sequence[int]) -> tuple[int, ...]:
    """The merged extents, once each axis is cut by its width in `alone`."""
    return tuple(math.prod(-(-view.shape[a] // alone[a]) for a in run) for run in view.axes)


def _order(extents: Sequence[int], widths: Sequence[int], held: Collection[int] = ()) -> list[int]:
    """The axes in the order in which they are cut: first what moves nothing between devices.

    What then has to move is pooled along the other axes already. held: axes known to be sharded.
    """
    sizes = list(zip(extents, widths, strict=True))
    return sorted(range(len(sizes)), key=lambda a: (a in held, not _splits(*sizes[a])))


def _held_runs(view: View, held: Collection[int]) -> list[int]:
    return [g for g, run in enumerate(view.axes) if {*run} & {*held}]


def _splits(extent: int, width: int) -> bool:
    """Whether a reshape into units divides among any power of two devices as the axis does."""
    count, rest = divmod(extent, width)
    return not rest and count.bit_count() == 1
