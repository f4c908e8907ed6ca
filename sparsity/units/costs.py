"""What a network costs with some of its units dead: exact integers, and one multilinear form.

Masks give integers, gates give expectations that are differentiable. How often a weight multiplies
is read off the network by `multiplies`.
"""

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparsity.units.partition import View
from sparsity.units.uses import Uses, multiplies

__all__ = [
    "Term",
    "Uses",
    "actual_sparsity",
    "count",
    "entry_sparsity",
    "expected",
    "live",
    "macs",
    "multiplies",
    "parameters",
    "per_unit",
    "unit_entries",
]

Units = dict[str, Array]


def macs(uses: Uses, live: Mapping[str, int] | None = None) -> int:
    """MACs of one example when the weights in `live` have only that many live entries.

    ValueError for a path that does not exist, a number outside [0, entries], and for a part of a
    weight whose entries are not used equally often: which of them live would matter.
    """
    alive = _alive(uses.entries, live)
    total = uses.fixed + sum(n * uses.per_entry[path] for path, n in alive.items())
    for path, n in alive.items():
        if not isinstance(uses.per_entry[path], int) and 0 < n < uses.entries[path]:
            raise ValueError(
                f"{path!r}: its entries multiply {uses.per_entry[path]} times on the mean, not "
                f"equally often, so {n} of {uses.entries[path]} entries have no exact cost"
            )
    return int(total)


def parameters(uses: Uses, live: Mapping[str, int] | None = None) -> int:
    """Parameters when the weights in `live` have only that many live entries; errors as `macs`."""
    return sum(_alive(uses.entries, live).values())


def live(masks: Mapping[str, Array]) -> dict[str, int]:
    """Live entries per path, from masks of the weights' own shapes (the spread unit masks)."""
    return {path: int(np.count_nonzero(np.asarray(mask))) for path, mask in masks.items()}


def unit_entries(view: View) -> np.ndarray:
    """Entries of the leaf in each unit that the view covers: ragged units hold fewer."""
    total = np.ones((), np.int64)
    for run, block in zip(view.axes, view.block, strict=True):
        extent = math.prod(view.shape[axis] for axis in run)
        full, rest = divmod(extent, block)
        total = np.multiply.outer(total, np.array([block] * full + [rest] * (rest > 0)))
    whole = math.prod(view.shape)
    return total * (whole // int(total.sum()))  # axes that no run names lie in every unit


def actual_sparsity(entries: Mapping[str, int], units: Mapping[str, tuple[int, int]]) -> Fraction:
    """Sum of (dead units / units) * entries over sum of entries: what papers on blocks print.

    entries: path -> entries, of all the weights that count. units: path -> (live units, units);
    weights that are not in it are dense. Does not depend on which ragged units die.
    """
    _check_paths(units, entries)
    dead = Fraction(0)
    for path, (alive, total) in units.items():
        if not 0 <= alive <= total or total < 1:
            raise ValueError(f"{path!r}: {alive} live units of {total}")
        dead += Fraction(total - alive, total) * entries[path]
    return dead / sum(entries.values())


def entry_sparsity(entries: Mapping[str, int], live: Mapping[str, int]) -> Fraction:
    """Share of all entries that really are zero, given the live ones; the others are dense."""
    return 1 - Fraction(sum(_alive(entries, live).values()), sum(entries.values()))


def _alive(entries: Mapping[str, int], live: Mapping[str, int] | None) -> dict[str, int]:
    live = live or {}
    _check_paths(live, entries)
    for path, n in live.items():
        if not 0 <= n <= entries[path]:
            raise ValueError(f"{path!r}: {n} live entries of {entries[path]}")
    return {**entries, **live}


def _check_paths(given: Iterable[str], known: Collection[str]) -> None:
    for path in given:
        if path not in known:
            near = difflib.get_close_matches(path, known, n=3) or sorted(known)[:3]
            raise ValueError(f"no weight at {path!r}; there are {len(known)}, such as {near}")


class Term(NamedTuple):
    """One product of group sums: coefficient * prod over `groups` of the sum of their gates.

    A layer between channel groups is Term(uses * kernel area, ("in", "out")), a layer in a branch
    that can die names the branch's group as well, and a group named twice (a residual stream that
    is both input and output) is squared. No group at all is a constant.

    coefficient: an integer, or an array of integers with one axis per axis of every group, for
        units that differ in cost.
    batch: the first `batch` axes of every group number layers of their own (scanned layers); the
        product is taken in each and they are added. Only with a single coefficient.
    """

    coefficient: Any
    groups: tuple[str, ...] = ()
    batch: int = 0


def per_unit(cost: Mapping[str, Any]) -> tuple[Term, ...]:
    """Terms for sum(cost * gate): an array of costs per group, of its grid's shape."""
    return tuple(Term(value, (group,)) for group, value in cost.items())


def count(terms: Iterable[Term], masks: Mapping[str, Any]) -> int:
    """The exact cost under 0/1 masks, as a Python int of any size. ValueError on other values."""
    whole = {}
    for group, mask in masks.items():
        mask = np.asarray(mask)
        if not np.isin(mask, (0, 1)).all():
            raise ValueError(f"{group!r}: a mask holds 0 and 1, this one has {np.unique(mask)[:5]}")
        whole[group] = mask.astype(object)
    return sum(int(_value(term._replace(coefficient=_exact(term)), whole, np)) for term in terms)


def expected(
    terms: Iterable[Term], gates: Mapping[str, Array], sampled: Collection[str] = ()
) -> Array:
    """The cost under gates in [0, 1], differentiable: a scalar, equal to `count` on 0/1 gates.

    The expectation if gates are chances that units live independently, but for a group that a term
    names twice: there it is the cost of the expected sum. The groups in `sampled` have one gate
    array per sample, (samples, *grid), and then the result is (samples,).
    """
    terms = tuple(terms)
    if sampled:
        axes = {group: 0 if group in sampled else None for group in gates}
        return jax.vmap(partial(expected, terms), in_axes=(axes,))(dict(gates))
    wide = {g: jnp.asarray(a, jnp.result_type(a, jnp.float32)) for g, a in gates.items()}
    costs = (_value(term._replace(coefficient=_inexact(term)), wide, jnp) for term in terms)
    return jnp.asarray(sum(costs, start=0.0))


def _exact(term: Term) -> np.ndarray:
    coefficient = np.asarray(term.coefficient)
    if coefficient.dtype != object and not np.issubdtype(coefficient.dtype, np.integer):
        raise ValueError(f"term of {term.groups}: expected integer costs, got {coefficient.dtype}")
    return coefficient.astype(object)


def _inexact(term: Term) -> Array:
    # By way of float64: an integer above 2^31 is no int32.
    return jnp.asarray(np.asarray(term.coefficient, dtype=np.float64), dtype=float)


def _value(term: Term, gates: Mapping[str, Any], xp: Any) -> Any:
    factors = [_gate(term, group, gates) for group in term.groups]
    coefficient, batch = term.coefficient, term.batch
    if coefficient.ndim == 0:
        sums = [xp.sum(g.reshape(*g.shape[:batch], -1), axis=-1) for g in factors]
        return xp.sum(coefficient * math.prod(sums))
    shape = tuple(n for g in factors for n in g.shape)
    if coefficient.shape != shape or batch:
        raise ValueError(
            f"term of {term.groups}: costs of shape {coefficient.shape} for grids {shape}"
            + (f" with batch={batch}: expected a single coefficient" if batch else "")
        )
    for g in factors:
        coefficient = xp.tensordot(g, coefficient, axes=g.ndim)
    return coefficient


def _gate(term: Term, group: str, gates: Mapping[str, Any]) -> Any:
    if group not in gates:
        near = difflib.get_close_matches(group, gates, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"term of {term.groups}: no gates for {group!r}{hint}")
    return gates[group]
