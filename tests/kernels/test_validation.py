"""Each way in which a layout from elsewhere can be wrong has its sentence."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.kernels.layout import from_mask
from sparsity.kernels.validation import validate

# Live blocks by (column, row): (1, 0) (0, 1) (2, 1) (3, 2).
MASK = np.array([[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], bool)


def broken(**fields):
    """The layout of MASK with some of its arrays exchanged."""
    layout = from_mask(MASK, (32, 24), (8, 8), 5)
    arrays = {name: jnp.asarray(value, jnp.int32) for name, value in fields.items()}
    return dataclasses.replace(layout, **arrays)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"count": 6}, "6 live blocks and room for 5"),
        ({"count": -1}, "-1 live blocks"),
        ({"count": [4]}, r"count is int32\[1\], not int32\[\]"),
        ({"rows": [1, 0, 2, 3]}, r"rows is int32\[4\], not int32\[5\]"),
        ({"rows": [1, 0, 2, 4, 3]}, r"rows hold 4, outside a grid of \(4, 3\)"),
        ({"cols": [0, 1, 1, -2, 2]}, "cols hold -2, outside"),
        ({"rows": [1, 2, 0, 3, 3]}, r"live blocks 1 and 2 are not sorted by \(column, row\)"),
        ({"rows": [1, 2, 2, 3, 3]}, "live blocks 1 and 2 are not sorted"),
        ({"cols": [1, 0, 1, 2, 2]}, "live blocks 0 and 1 are not sorted"),
        ({"col_starts": [0, 2, 3, 4]}, r"col_starts\[1\] is 2, but the live blocks give 1"),
        ({"row_starts": [0, 1, 2, 3, 3]}, r"row_starts\[4\] is 3, but the live blocks give 4"),
        ({"by_row": [1, 0, 2, 2, 4]}, "not a permutation"),
        ({"by_row": [1, 0, 2, 4, 3]}, "names padding before"),
        ({"by_row": [0, 1, 2, 3, 4]}, r"by_row 0 and 1 are not sorted by \(row, column\)"),
        ({"cols_by_count": [0, 1, 2]}, "names a line of 1 live blocks before one of 2"),
        ({"rows_by_count": [0, 1, 2, 2]}, "rows_by_count is not a permutation of 4 lines"),
    ],
)
def test_a_broken_layout_is_named(fields, words):
    validate(broken())
    with pytest.raises(ValueError, match=words):
        validate(broken(**fields))
