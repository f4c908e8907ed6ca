"""Whether a layout's indices hold together: a check on the host, for layouts that came from elsewhere."""

import jax
import numpy as np

from sparsity.kernels.layout import Layout


def validate(layout: Layout) -> None:
    """ValueError in words for what no mask could have given: see the messages. Waits for the device.

    A layout from `from_mask` can only fail by its count (a traced mask with more live blocks than room).
    """
    host = jax.tree.map(np.asarray, layout)
    _check_arrays(host)
    count = int(host.count)
    if not 0 <= count <= host.capacity:
        raise ValueError(f"the layout has {count} live blocks and room for {host.capacity}")
    _check_range(host)
    rows, cols = host.rows[:count].astype(np.int64), host.cols[:count].astype(np.int64)
    _check_order(cols * host.grid[0] + rows, "live blocks", "(column, row)")
    _check_starts(host.col_starts, cols, host.grid[1], "col_starts")
    _check_starts(host.row_starts, rows, host.grid[0], "row_starts")
    if not np.array_equal(np.sort(host.by_row), np.arange(host.capacity)):
        raise ValueError("by_row is not a permutation of the packed places")
    first = host.by_row[:count]
    if np.any(first >= count):
        raise ValueError("by_row names padding before it has named every live block")
    _check_order(rows[first] * host.grid[1] + cols[first], "by_row", "(row, column)")
    _check_by_count(host.cols_by_count, host.col_starts, "cols_by_count")
    _check_by_count(host.rows_by_count, host.row_starts, "rows_by_count")


def _check_arrays(host: Layout) -> None:
    asked = {
        "count": (),
        "rows": (host.capacity,),
        "cols": (host.capacity,),
        "by_row": (host.capacity,),
        "col_starts": (host.grid[1] + 1,),
        "row_starts": (host.grid[0] + 1,),
        "cols_by_count": (host.grid[1],),
        "rows_by_count": (host.grid[0],),
    }
    for name, shape in asked.items():
        array = getattr(host, name)
        if array.shape != shape or array.dtype != np.int32:
            raise ValueError(
                f"the layout's {name} is {array.dtype}{list(array.shape)}, not int32{list(shape)}; "
                "stacked layouts are validated one by one"
            )


def _check_range(host: Layout) -> None:
    for name, indices, size in zip(
        ("rows", "cols"), (host.rows, host.cols), host.grid, strict=True
    ):
        if wrong := indices[(indices < 0) | (indices >= size)].tolist():
            raise ValueError(f"the layout's {name} hold {wrong[0]}, outside a grid of {host.grid}")


def _check_order(keys: np.ndarray, what: str, order: str) -> None:
    if (falls := np.flatnonzero(np.diff(keys) <= 0)).size:
        raise ValueError(f"{what} {falls[0]} and {falls[0] + 1} are not sorted by {order}")


def _check_starts(starts: np.ndarray, keys: np.ndarray, size: int, name: str) -> None:
    asked = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=size))])
    if (wrong := np.flatnonzero(starts != asked)).size:
        i = wrong[0]
        raise ValueError(f"{name}[{i}] is {starts[i]}, but the live blocks give {asked[i]}")


def _check_by_count(order: np.ndarray, starts: np.ndarray, name: str) -> None:
    if not np.array_equal(np.sort(order), np.arange(order.size)):
        raise ValueError(f"{name} is not a permutation of {order.size} lines of the grid")
    counts = np.diff(starts)[order]
    if (rises := np.flatnonzero(np.diff(counts) > 0)).size:
        i = rises[0]
        raise ValueError(
            f"{name} names a line of {counts[i]} live blocks before one of {counts[i + 1]}"
        )
