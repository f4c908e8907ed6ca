"""The static facts of one product, on which everything is decided: shapes and capacity, never a live count."""

from typing import NamedTuple

from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import ARRAYS, Layout, grid_of

VERBS = ("forward", "dx", "dw")


class Call(NamedTuple):
    """One product.

    verb:     "forward", "dx" or "dw", with operands as `backends` names them.
    count:    rows of x, or images where there is a geometry.
    shape, block, capacity: of the layout.
    dtype:    name of the operands' dtype.
    activation, geometry: as for a backend; "none" and None where a verb has none.
    path:     "sparse", "dense", or "auto" for whichever is expected to be faster.
    """

    verb: str
    count: int
    shape: tuple[int, int]
    block: tuple[int, int]
    capacity: int
    dtype: str
    activation: str = "none"
    geometry: Geometry | None = None
    path: str = "auto"

    @property
    def layout(self) -> Layout:
        """A layout with the call's static facts and nothing else."""
        return Layout(self.shape, self.block, self.capacity, *(None,) * ARRAYS)  # type: ignore[arg-type]

    @property
    def density(self) -> float:
        """The share of blocks that there is room for."""
        rows, cols = grid_of(self.shape, self.block)
        return min(1.0, self.capacity / (rows * cols))

    @property
    def window(self) -> tuple[int, int]:
        """(height, width) of a convolution, (1, 1) for a matrix product."""
        return (1, 1) if self.geometry is None else self.geometry.kernel


def result(call: Call) -> tuple[int, ...]:
    """The shape of what the product gives."""
    if call.verb == "dw":
        return (call.capacity, *call.block)
    features = call.shape[1 if call.verb == "forward" else 0]
    if call.geometry is None:
        return (call.count, features)
    inside = (*call.geometry.out, features) if call.verb == "forward" else call.geometry.image
    return (call.count, *inside)
