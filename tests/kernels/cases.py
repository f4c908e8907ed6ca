"""Weights, blocks and masks that the kernels are tried on: fixed shapes, so that little is compiled."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from sparsity.kernels.layout import Layout, from_mask, grid_of
from sparsity.kernels.packed import Reading, array_of


class Case(NamedTuple):
    """A weight's shape, its block, and room for how many live blocks."""

    shape: tuple[int, int]
    block: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        return grid_of(self.shape, self.block)

    @property
    def capacity(self) -> int:
        # One more than there are, so that there is always padding.
        return self.grid[0] * self.grid[1] + 1


CASES = {
    "even": Case((64, 96), (32, 32)),
    "small blocks": Case((64, 48), (8, 8)),
    "blocks of 16": Case((48, 80), (16, 16)),
    "Criteo's 5, ragged": Case((33, 22), (5, 5)),
    "Criteo's 10": Case((30, 40), (10, 10)),
    "Criteo's 20, ragged": Case((50, 70), (20, 20)),
    "tall blocks, ragged": Case((100, 20), (24, 7)),
    "wide blocks": Case((20, 130), (4, 64)),
    "one block larger than the weight": Case((9, 11), (16, 16)),
}
# Each compiles programs of its own; the quick tests try these.
QUICK = ("even", "Criteo's 5, ragged", "tall blocks, ragged")
KINDS = ("random", "dead", "alive", "one block", "one row", "one column", "empty row and column")
FILLS = st.tuples(st.sampled_from(KINDS), st.integers(0, 2**31 - 1))


def mask_of_kind(kind: str, seed: int, grid: tuple[int, int]) -> np.ndarray:
    """A mask of blocks: a random one, or one of the shapes that kernels get wrong."""
    rng = np.random.default_rng(seed)
    mask = rng.random(grid) < rng.random()
    i, j = rng.integers(grid[0]), rng.integers(grid[1])
    if kind in ("dead", "one block", "one row", "one column"):
        mask[:] = False
    if kind == "alive":
        mask[:] = True
    elif kind == "one block":
        mask[i, j] = True
    elif kind == "one row":
        mask[i] = True
    elif kind == "one column":
        mask[:, j] = True
    elif kind == "empty row and column":
        mask[i], mask[:, j] = False, False
        # A weight of one row or column has that alive: of a dead one any kernel is right.
        mask[(i + 1) % grid[0], (j + 1) % grid[1]] = True
    return mask


def layout_of(case: Case, mask: np.ndarray) -> Layout:
    """The layout with the case's capacity."""
    return from_mask(mask, case.shape, case.block, case.capacity)


def entries(mask: np.ndarray, case: Case) -> np.ndarray:
    """The mask of a weight's entries, (K, N)."""
    return np.kron(mask, np.ones(case.block, bool))[: case.shape[0], : case.shape[1]]


def normal(seed: int, *shape: int, dtype=jnp.float32) -> jax.Array:
    """A draw that does not compile per shape."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def holed(seed: int, reading: Reading, block: tuple[int, int], density: float = 0.4):
    """An array with dead blocks that are +0, and its mask (count, R, C)."""
    rng = np.random.default_rng(seed)
    (k, n), (br, bc) = reading.matrix, block
    mask = rng.random((reading.matrices, -(-k // br), -(-n // bc))) < density
    alive = np.kron(mask, np.ones((1, br, bc)))[:, :k, :n]
    matrices = np.where(alive, rng.normal(size=alive.shape), 0).astype(np.float32)
    return array_of(matrices if reading.stack else matrices[0], reading), mask


def same(got, asked):
    """Asserts that two trees are the same, bit for bit."""
    assert jax.tree.structure(got) == jax.tree.structure(asked)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(asked), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
