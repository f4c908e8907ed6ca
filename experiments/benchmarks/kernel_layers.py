"""The layers that kernels are measured on, and the masks that they get."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparsity.kernels.geometry import Geometry, geometry_of
from sparsity.kernels.layout import grid_of

SIDES = (16, 32, 64, 128)


class Layer(NamedTuple):
    """A product to measure.

    count:    rows of x, or images where there is a geometry.
    shape:    (K, N) of the weight.
    blocks:   sides of the square blocks to try, the telling ones first.
    dtypes:   to try.
    geometry: of a convolution.
    """

    name: str
    count: int
    shape: tuple[int, int]
    blocks: tuple[int, ...]
    dtypes: tuple[str, ...]
    geometry: Geometry | None = None


def layers(platform: str) -> list[Layer]:
    """What is measured on a platform: on a CPU fewer rows, and not the largest weights, to end in minutes."""
    small = platform == "cpu"
    both, single = ("float32", "bfloat16"), ("float32",)
    main = single if small else ("bfloat16",)
    images, rows = (8, 1576) if small else (128, 12608)
    found = [
        Layer("1 row, 2048 x 2048", 1, (2048, 2048), (32, 64), main),
        Layer("Criteo's first layer", 4096, (390, 400), (5, 10, 20), main),
        Layer("ViT-B MLP, in", rows, (768, 3072), (32, 64), main),
        Layer("ViT-B MLP, out", rows, (3072, 768), (32, 64), main),
        _pixels("ResNet-50 1x1, 56x56", images, 56, (256, 64), main),
        _pixels("ResNet-50 1x1, 14x14", images, 14, (1024, 256), main),
        _pixels("ResNet-50 1x1, 7x7", images, 7, (2048, 512), main),
        _windows("ResNet-50 3x3, 56x56", images, 56, 64, main),
        _windows("ResNet-50 3x3, 14x14", images, 14, 256, main),
        _windows("ResNet-50 3x3, 7x7", images, 7, 512, main),
    ]
    if small:
        goal = Layer("256 rows, 2048 x 2048", 256, (2048, 2048), (32, 64, 16, 128), both)
        return [goal, Layer("1024 x 1024", 1024, (1024, 1024), (32, 64), single), *found]
    wide = Layer("8192 rows, 4096 x 4096", 8192, (4096, 4096), (64, 128, 32, 16), main)
    # So few features that a panel of them fits into shared memory.
    narrow = Layer("8192 rows, 1024 x 4096", 8192, (1024, 4096), (16, 32), main)
    square = Layer("4096 x 4096", 4096, (4096, 4096), (64, 128, 32, 16), both)
    return [wide, narrow, Layer("1024 x 1024", 1024, (1024, 1024), SIDES, main), *found, square]


def _pixels(
    name: str, images: int, side: int, shape: tuple[int, int], dtypes: tuple[str, ...]
) -> Layer:
    """A convolution of one pixel, which is a matrix product."""
    return Layer(name, images * side * side, shape, (32, 64), dtypes)


def _windows(name: str, images: int, side: int, channels: int, dtypes: tuple[str, ...]) -> Layer:
    geometry = geometry_of((side, side, channels), (3, 3), (1, 1), "SAME")
    return Layer(name, images, (geometry.rows, channels), (32, 64), dtypes, geometry)


def mask_at(layer: Layer, side: int, percent: float, unbalanced: bool = False) -> np.ndarray:
    """A random mask of blocks, bool (R, C), with exactly the share alive (one at least).

    unbalanced: columns have unlike live counts. Else the live blocks are uniform over the grid.
    """
    grid = grid_of(layer.shape, (side, side))
    rng = np.random.default_rng(1)
    scores = rng.random(grid) * (rng.random(grid[1]) if unbalanced else 1)
    live = max(1, int(scores.size * percent / 100))
    return (np.argsort(np.argsort(-scores, axis=None)) < live).reshape(grid)


def chosen(found: Sequence[Layer], names: Sequence[str]) -> list[Layer]:
    """The layers whose name holds one of the words; all without words. Raises ValueError for no layer."""
    kept = [layer for layer in found if not names or any(name in layer.name for name in names)]
    if not kept:
        known = "; ".join(layer.name for layer in found)
        raise ValueError(f"no layer's name holds {' or '.join(names)}; there are: {known}")
    return kept
