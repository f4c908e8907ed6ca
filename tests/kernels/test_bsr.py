"""BSR, as scipy and torch keep it, and packed weights are each other's, or are refused in words."""

import types

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from sparsity.kernels import bsr
from sparsity.kernels.columns import from_array
from sparsity.kernels.packed import Reading
from tests.kernels.cases import CASES, FILLS, holed, mask_of_kind, normal, same

names = st.sampled_from(list(CASES))


@given(names, FILLS, st.booleans())
def test_bsr_comes_back_and_is_scipys(name, fill, transpose):
    case = CASES[name]
    shape = tuple(g * b for g, b in zip(case.grid, case.block, strict=True))
    mask = mask_of_kind(*fill, case.grid)
    w = np.where(np.kron(mask, np.ones(case.block)), normal(fill[1], *shape), 0)
    matrix = from_array(w, case.block, mask)
    made = bsr.to_bsr(matrix, transpose=transpose)
    held = scipy.sparse.bsr_matrix((made.values, made.col, made.crow), shape=made.shape)
    np.testing.assert_array_equal(held.toarray(), w.T if transpose else w)
    assert held.has_canonical_format
    same(bsr.from_bsr(*made, transpose=transpose), matrix)
    same(bsr.from_scipy(held, transpose=transpose), matrix)


def test_blocks_out_of_order_within_a_row_are_put_in_order():
    w, _ = holed(2, Reading((32, 48)), (8, 16), 0.9)
    made = bsr.to_bsr(from_array(w, (8, 16)))
    row = np.repeat(np.arange(4), np.diff(made.crow))
    order = np.lexsort((-made.col, row))
    assert (order != np.arange(len(order))).any()
    mixed = bsr.from_bsr(made.crow, made.col[order], made.values[order], made.shape)
    same(mixed.dense(), w)


class Tensor:
    """What is asked of a torch tensor, over a numpy array; dtype as torch names it."""

    def __init__(self, array, dtype=None):
        self.array, self.shape = np.asarray(array), np.shape(array)
        self.dtype = f"torch.{dtype or self.array.dtype}"

    def detach(self):
        return self

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.array.astype("f4"))

    def numpy(self):
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_torch_linears_weight_is_read_transposed(dtype):
    w, _ = holed(3, Reading((48, 32)), (16, 8))
    held = scipy.sparse.bsr_matrix(w, blocksize=(16, 8))
    tensor = types.SimpleNamespace(
        crow_indices=lambda: Tensor(held.indptr),
        col_indices=lambda: Tensor(held.indices),
        values=lambda: Tensor(held.data, dtype),
        shape=(48, 32),
    )
    matrix = bsr.from_torch(tensor, transpose=True)
    same(matrix, from_array(w.T.astype(matrix.dtype), (8, 16)))
    x = np.asarray(normal(4, 5, 32))
    np.testing.assert_allclose(
        matrix.matmul(x), x @ w.T, atol=0.05 if dtype == "bfloat16" else 1e-5
    )


GOOD = {"crow": [0, 1, 3], "col": [1, 0, 2], "values": np.ones((3, 4, 8), "f4"), "shape": (8, 24)}
BAD = {
    "another shape": ({"shape": (8, 20)}, "no blocks of a matrix of"),
    "flat values": ({"values": np.ones((3, 32), "f4")}, "no blocks of a matrix"),
    "blocks of nothing": ({"values": np.ones((3, 0, 8), "f4")}, "no blocks of a matrix"),
    "a column out of range": ({"col": [1, 0, 3]}, r"hold 3, outside a grid of \(2, 3\)"),
    "a negative column": ({"col": [-1, 0, 2]}, "hold -1"),
    "a block twice": ({"col": [1, 2, 2]}, "or stand in one place"),
    "too few columns": ({"col": [1, 0]}, r"col is int64\[2\], not 3 integers"),
    "float columns": ({"col": [1.0, 0, 2]}, "col is float64"),
    "falling rows": ({"crow": [0, 4, 3]}, "crow does not rise from 0 to the 3 blocks"),
    "rows of more": ({"crow": [0, 1, 9]}, "crow does not rise"),
    "rows of another": ({"crow": [0, 1, 2, 3]}, "crow is int64"),
    "integers": ({"values": np.ones((3, 4, 8), "i1")}, "the blocks are int8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused_in_words(case):
    changes, words = BAD[case]
    bsr.from_bsr(**GOOD)
    with pytest.raises(ValueError, match=words):
        bsr.from_bsr(**GOOD | changes)


def test_what_bsr_cannot_hold_is_refused():
    for reading in (Reading((33, 24)), Reading((2, 32, 24), (1,), (2,), (0,))):
        with pytest.raises(ValueError, match="BSR holds one matrix in whole blocks"):
            bsr.to_bsr(from_array(holed(1, reading, (8, 8))[0], (8, 8), reading=reading))
