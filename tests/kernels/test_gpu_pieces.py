"""Pieces of images, each times the blocks of its column, are the convolution and the gradient of its images."""

import numpy as np
import pytest

from sparsity.kernels import dense, model
from sparsity.kernels.blocks import unpack
from sparsity.kernels.gpu.persistent import Launch
from sparsity.kernels.gpu.pieces import Pieces, backwards, forwards, pieces_of
from sparsity.kernels.gpu.product import OFTEN, End, _plan
from sparsity.kernels.gpu.walk import Walk
from sparsity.kernels.layout import Layout
from sparsity.kernels.taps import turned
from tests.kernels.windows import WINDOWS, made, zeroed


def summed(x: np.ndarray, weight: np.ndarray, layout: Layout, pieces: Pieces) -> np.ndarray:
    """The result (images, blocks of columns, cols) of x (images, columns), a piece and a block at a time."""
    (rows, cols), (tall, wide) = layout.block, layout.grid
    window, count = pieces.window, len(x)
    x = np.pad(x, ((0, pieces.reach(pieces.of(count)) - count), (0, rows)))
    y = np.full((len(x), window.made + 1, cols), np.nan)
    cut = weight.reshape(tall, rows, wide, cols)
    for piece in range(pieces.of(count)):
        for column in range(wide):
            below, to = pieces.written(piece, column)
            total = 0.0
            for row in range(tall):
                _, block = pieces.read(piece, row)
                seen = x[below : below + pieces.rows, block * rows : (block + 1) * rows]
                total = total + seen @ cut[row, :, column]
            assert to == window.made or np.all(np.isnan(y[below : below + pieces.rows, to]))
            y[below : below + pieces.rows, to] = total
    return y[:count, :-1]


def matrix(packed, layout: Layout) -> np.ndarray:
    (tall, wide), (rows, cols) = layout.grid, layout.block
    w = np.asarray(unpack(zeroed(packed, layout).astype(np.float32), layout))
    return np.pad(w, ((0, tall * rows - w.shape[0]), (0, wide * cols - w.shape[1])))


@pytest.mark.parametrize("name", WINDOWS)
def test_they_add_up_to_the_convolution(name):
    geometry, layout, packed, x, _ = made(name)
    flat = np.asarray(x, np.float32).reshape(len(x), -1)
    pieces = Pieces(2, forwards(layout, geometry))
    got = summed(flat, matrix(packed, layout), layout, pieces)
    got = got.reshape(len(x), *geometry.out, -1)[..., : layout.shape[1]]
    asked = dense.convolve(
        x.astype(np.float32),
        zeroed(packed, layout).astype(np.float32),
        layout,
        None,
        "none",
        geometry,
    )
    np.testing.assert_allclose(got, asked, atol=1e-3)


@pytest.mark.parametrize("name", WINDOWS)
def test_they_add_up_to_the_gradient_of_its_images(name):
    geometry, layout, packed, _, dy = made(name)
    back, whose = turned(layout, geometry)
    beyond = layout.grid[1] * layout.block[1] - layout.shape[1]
    flat = np.pad(np.asarray(dy, np.float32), (*[(0, 0)] * 3, (0, beyond))).reshape(len(dy), -1)
    blocks = packed[whose].swapaxes(1, 2)
    pieces = Pieces(2, backwards(layout, geometry))
    got = summed(flat, matrix(blocks, back), back, pieces).reshape(len(dy), *geometry.image)
    wide = zeroed(packed, layout).astype(np.float32)
    np.testing.assert_allclose(
        got, dense.convolve_dx(dy.astype(np.float32), wide, layout, geometry), atol=1e-3
    )


@pytest.mark.parametrize(
    ("count", "most", "least", "rows"),
    [
        (128, 128, 8, 128),
        (120, 128, 8, 128),
        (32, 128, 8, 32),
        (100, 128, 8, 16),
        (3, 64, 8, 8),
        (3, 64, 64, 64),
        (192, 128, 8, 64),
    ],
)
def test_no_more_than_an_eighth_of_the_rows_stays_empty_where_there_is_a_way(
    count, most, least, rows
):
    geometry, layout, *_ = made("3x3")
    assert pieces_of(count, most, least, forwards(layout, geometry)).rows == rows
    assert pieces_of(count, most, least, None).rows == most


@pytest.mark.parametrize("count", [1, 8, 16, 24, 40, 64, 100, 128])
def test_kernels_take_no_more_images_than_the_model_says(count):
    geometry, layout, packed, *_ = made("64", 1)
    walk = Walk(layout, packed, None, forwards(layout, geometry))
    # With so many tiles that none is halved for want of them.
    pieces = _plan(walk, count, End(), Launch(programs=1)).pieces
    images = model.MACHINES["cuda"].images["forward"]
    assert pieces.reach(pieces.of(count)) <= OFTEN * -(-count // images) * images
