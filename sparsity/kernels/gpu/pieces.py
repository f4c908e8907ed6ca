"""Which piece of x and of y a GPU's kernel has in hand: rows of a matrix, or some images of one pixel.

A convolution's images stay as they are: an image is a row, and its pixels are columns behind each other, (images,
pixels * features). A piece of the result is one of its pixels, and a block row of W, (tap, block of features),
reads another pixel of the same images for it, so that nothing is copied before or behind a kernel. Beyond an
image's edge it reads beyond the end of x, where the hardware finds zeros; what belongs to no pixel is not written.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import Layout
from sparsity.kernels.taps import back

# Of a group's half, or of a gradient's step, at most: with more the group that copies has too few registers for
# their addresses.
PIECES = 4


class Side(NamedTuple):
    """A convolution along height or along width; static.

    spots:                 what pieces are counted in.
    taps, step, before:    spot p reads pixel p * step + tap - before of `size`.
    phases, skipped:       it is the result's pixel p * phases + phase - skipped of `found`.
    """

    spots: int
    taps: int
    step: int
    before: int
    size: int
    phases: int
    skipped: int
    found: int


class Window(NamedTuple):
    """A convolution; static.

    inside, outputs: blocks of features that a pixel has, one that is read and one of the result.
    """

    high: Side
    wide: Side
    inside: int
    outputs: int

    @property
    def spots(self) -> int:
        return self.high.spots * self.wide.spots

    @property
    def seen(self) -> int:
        """Blocks of features of an image that is read."""
        return self.high.size * self.wide.size * self.inside

    @property
    def made(self) -> int:
        """Blocks of features of an image of the result."""
        return self.high.found * self.wide.found * self.outputs

    @property
    def image(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return self.high.found, self.wide.found

    @property
    def phases(self) -> int:
        """Pixels of the result that are made of one spot."""
        return self.high.phases * self.wide.phases

    def read(self, spot: Any, row: Any) -> Any:
        """The block of an image that a block row reads for a spot; `seen` where there is none."""
        (i, j), (tap, block) = _divided(spot, self.wide.spots), _divided(row, self.inside)
        (down, along), (high, wide) = _divided(tap, self.wide.taps), self[:2]
        pixel = i * high.step + down - high.before, j * wide.step + along - wide.before
        there = (pixel[0] * wide.size + pixel[1]) * self.inside + block
        return jnp.where(_within(pixel, (high.size, wide.size)), there, self.seen)

    def written(self, spot: Any, column: Any) -> Any:
        """The block of the result's image that a block column is at a spot; `made` where it is none."""
        (i, j), (phase, block) = _divided(spot, self.wide.spots), _divided(column, self.outputs)
        (down, along), (high, wide) = _divided(phase, self.wide.phases), self[:2]
        pixel = i * high.phases + down - high.skipped, j * wide.phases + along - wide.skipped
        there = (pixel[0] * wide.found + pixel[1]) * self.outputs + block
        return jnp.where(_within(pixel, (high.found, wide.found)), there, self.made)


class Pieces(NamedTuple):
    """How x and y fall into pieces of so many rows each; static.

    window: None for a matrix, of which a piece has whole rows.
    """

    rows: int
    window: Window | None

    @property
    def spots(self) -> int:
        """How many pieces have the same rows."""
        return 1 if self.window is None else self.window.spots

    @property
    def beyond(self) -> int:
        """Blocks of columns beyond the end of x that are read."""
        return 0 if self.window is None else 1

    @property
    def made(self) -> int | None:
        """Blocks of columns of y, where some pieces are at none of them: pixels between strides that do not exist."""
        return None if self.window is None or self.window.phases == 1 else self.window.made

    def of(self, count: int) -> int:
        """How many pieces so many rows are."""
        return max(1, -(-count // self.rows)) * self.spots

    def reach(self, pieces: int) -> int:
        """How many rows so many pieces read."""
        return -(-pieces // self.spots) * self.rows

    def read(self, piece: Any, row: Any) -> tuple[Any, Any]:
        """Of x the first row, and which block of columns, that a block row of W reads for a piece."""
        if self.window is None:
            return piece * self.rows, row
        rows, spot = _divided(piece, self.spots)
        return rows * self.rows, self.window.read(spot, row)

    def written(self, piece: Any, column: Any) -> tuple[Any, Any]:
        """Of y the first row, and which block of columns, that a piece is with a block column of W."""
        if self.window is None:
            return piece * self.rows, column
        rows, spot = _divided(piece, self.spots)
        return rows * self.rows, self.window.written(spot, column)


def forwards(layout: Layout, geometry: Geometry) -> Window:
    """The convolution itself: a spot is a pixel of the result."""
    sides = zip(*geometry, geometry.out, strict=False)
    high, wide = (
        Side(out, taps, step, before, size, phases=1, skipped=0, found=out)
        for taps, step, (before, _), size, out in sides
    )
    return Window(high, wide, geometry.image[2] // layout.block[0], layout.grid[1])


def backwards(layout: Layout, geometry: Geometry) -> Window:
    """The gradient of its images, by the weight that is `taps.turned`: a spot is a pixel of each phase."""
    sides = zip(back(geometry), *geometry[1:], geometry.out, strict=False)
    high, wide = (
        Side(
            spots=(before + size - 1) // phases - before // phases + 1,
            taps=taps,
            step=1,
            before=taps - 1 - before // phases,
            size=out,
            phases=phases,
            skipped=before % phases,
            found=size,
        )
        for taps, phases, (before, _), size, out in sides
    )
    return Window(high, wide, layout.grid[1], geometry.image[2] // layout.block[0])


def pieces_of(count: int, most: int, least: int, window: Window | None) -> Pieces:
    """Of `count` rows: as many to a piece as there can be, if no more than an eighth of them stays empty.

    A matrix's last piece alone is not full: all of them have the most rows.
    """
    if window is None:
        return Pieces(most, None)
    sizes = [most >> i for i in range(most.bit_length()) if most >> i >= least]
    near = [n for n in sizes if -(-count // n) * n * 8 <= count * 9]
    return Pieces((near or sizes[-1:])[0], window)


def _divided(number: Any, by: int) -> tuple[Any, Any]:
    return lax.div(number, by), lax.rem(number, by)


def _within(pixel: tuple[Any, Any], image: tuple[int, int]) -> Any:
    (i, j), (height, width) = pixel, image
    return (i >= 0) & (i < height) & (j >= 0) & (j < width)
