"""Leaves that a phase does not train: no update, and their optimiser state as it was."""

import fnmatch
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sparsity.named import unknown
from sparsity.train.moments import map_owned
from sparsity.units.partition import path_of

Tree = Any


def frozen(updates: Tree, patterns: Sequence[str]) -> Tree:
    """`updates` with zeros at the leaves whose path matches any of the patterns.

    Paths join the keys with "/" ("params/params/conv1/kernel", "gates/conv1"); in a pattern `*` matches
    anything, "/" included, so "gates/**" is every gate. Patterns are static. Last in a step, after
    `tx.update`: decay and prox move weights too.

    Raises ValueError for a pattern that matches nothing.
    """
    stop = _matching(updates, patterns)
    return jax.tree_util.tree_map_with_path(
        lambda keys, leaf: jnp.zeros_like(leaf) if keys in stop else leaf, updates
    )


def hold(
    tx: optax.GradientTransformation,
    new_state: Tree,
    old_state: Tree,
    trained: Tree,
    patterns: Sequence[str],
) -> Tree:
    """`new_state` with what belongs to frozen leaves, of any shape, as it is in `old_state`.

    Counts are shared by the whole tree and go on, a schedule's as a moment's. Moments that were held
    through many steps are thus taken for older than they are when the leaf thaws; held since the start,
    they let the first Adam step through at 3.2 times its size: `moments.restart` on thawing.
    """
    stop = _matching(trained, patterns)
    return map_owned(
        lambda keys, new, old: old if keys in stop else new, trained, new_state, old_state
    )


def _matching(tree: Tree, patterns: Sequence[str]) -> set[tuple[Any, ...]]:
    """Keys of the leaves that match."""
    paths = {keys: path_of(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(tree)}
    for pattern in patterns:
        if not any(_matches(path, pattern) for path in paths.values()):
            raise unknown("leaf to freeze", pattern, tuple(paths.values()))
    return {keys for keys, path in paths.items() if any(_matches(path, p) for p in patterns)}


def _matches(path: str, pattern: str) -> bool:
    # "gates/**" also matches gates that are one array, whose path is "gates".
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path + "/", pattern)
