"""The block-sparse kernels that are compiled ahead of time, and what their compilers say of each.

Forward, dX and dW of y = x W, 8192 x 4096 x 2048 at a density of 10%, and of a 3 x 3 convolution of 32 images of
28 x 28 x 256. On a GPU also forward and dX of small blocks with a panel of x, 8192 x 1024, in shared memory.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# First: it says to jax, before that is imported, where to compile.
from experiments.compiled.absent import TPUS, NoCompiler, compiled, heard

# isort: split
import jax
import jax.numpy as jnp

from experiments.compiled.compilers import read, vmem_asked
from sparsity.kernels.geometry import geometry_of
from sparsity.kernels.gpu import backend as gpu
from sparsity.kernels.gpu import budget as gpu_budget
from sparsity.kernels.gpu.gradient import HALF
from sparsity.kernels.gpu.persistent import GROUPS
from sparsity.kernels.gpu.product import TILE
from sparsity.kernels.gpu.shares import STAGES, Panels
from sparsity.kernels.gpu.walk import DEPTH, depth
from sparsity.kernels.layout import Layout, from_mask, grid_of
from sparsity.kernels.tpu import backend as tpu
from sparsity.kernels.tpu import budget as tpu_budget
from sparsity.kernels.tpu import lines
from sparsity.kernels.tpu.convolution import tile_of

SHAPE = (8192, 4096, 2048)
DENSITY = 0.1
IMAGES, GEOMETRY, OUTPUTS = 32, geometry_of((28, 28, 256), (3, 3), (1, 1), "SAME"), 256
MATRIX = ("forward", "dX", "dW")
CONVOLUTIONS = tuple(f"convolution's {verb}" for verb in MATRIX)
PANELS, FEW = ("panel's forward", "panel's dX"), 1024
BLOCKS = [*((side, side) for side in (16, 32, 64, 128)), (16, 128), (128, 16), (32, 64)]
DTYPES = {**dict.fromkeys(TPUS, tpu.DTYPES), "h200": gpu.DTYPES}
# Bytes, more than a kernel's scratch and less than its windows: the compiler then says what it asks for.
TOO_LITTLE = 4 * 2**20


class Variant(NamedTuple):
    """A kernel: for which target, which product, which block and dtype."""

    target: str
    verb: str
    block: tuple[int, int]
    dtype: str

    def __str__(self) -> str:
        rows, cols = self.block
        return f"{self.target}, {self.verb}, blocks of {rows}x{cols}, {self.dtype}"

    @property
    def weight(self) -> tuple[int, int]:
        """Shape of the weight, (K, N)."""
        if self.verb in PANELS:
            return (SHAPE[2], FEW) if self.verb.endswith("dX") else (FEW, SHAPE[2])
        return (GEOMETRY.rows, OUTPUTS) if self.verb in CONVOLUTIONS else (SHAPE[1], SHAPE[2])

    @property
    def walked(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The weight's shape and block as the kernel walks them: for dX it is the transposed weight."""
        (k, n), (rows, cols) = self.weight, self.block
        return ((n, k), (cols, rows)) if self.verb.endswith("dX") else ((k, n), (rows, cols))

    @property
    def capacity(self) -> int:
        rows, cols = grid_of(self.weight, self.block)
        return round(DENSITY * rows * cols)


def sweep(targets: list[str], blocks: list[tuple[int, int]]) -> Iterator[Variant]:
    """All variants of these targets and blocks."""
    for target, block in itertools.product(targets, blocks):
        for dtype, verb in itertools.product(DTYPES[target], verbs_of(target, block)):
            yield Variant(target, verb, block, dtype)


def verbs_of(target: str, block: tuple[int, int]) -> tuple[str, ...]:
    """The products that a target has kernels for."""
    panels = PANELS if target not in TPUS and block in ((16, 16), (32, 32)) else ()
    return (*MATRIX, *panels, *CONVOLUTIONS)


def measured(variant: Variant) -> dict[str, Any]:
    """The variant's row: its facts, its problem in words or "", and the seconds that it took.

    Raises NoCompiler where there is none.
    """
    began = time.monotonic()
    look = _on_tpu if variant.target in TPUS else _on_gpu
    try:
        facts = look(variant)
    except NoCompiler:
        raise
    except Exception as error:  # noqa: BLE001 - compilers raise what they like, the others go on
        facts = {"problem": " ".join(str(error).split())[:500]}
    seconds = round(time.monotonic() - began, 1)
    return {**variant._asdict(), "problem": "", **facts, "seconds": seconds}


def _on_tpu(variant: Variant) -> dict[str, Any]:
    found = compiled(variant.target, *_program(variant, tpu))
    return {
        "vmem": _vmem(variant),
        "vmem_planned": _planned(variant),
        "smem_planned": tpu_budget.smem(*variant.walked, variant.capacity),
        "temporary": found.memory_analysis().temp_size_in_bytes,
    }


def _planned(variant: Variant) -> int:
    """Bytes of VMEM that our budget gives the kernel."""
    (shape, block), itemsize = variant.walked, jnp.dtype(variant.dtype).itemsize
    tiles = tpu_budget.WIDE_TILES if variant.verb.endswith("dW") else tpu_budget.TILES
    if variant.verb not in CONVOLUTIONS:
        tile = tpu_budget.fitting(shape, block, itemsize, tiles, SHAPE[0])
        return tpu_budget.vmem(shape, block, itemsize, tile)
    there, back = lines.features(_layout(variant), GEOMETRY)
    backwards = variant.verb.endswith("dX")
    features = back if backwards else there
    width = lines.grid_of_strides(GEOMETRY)[1] if backwards else GEOMETRY.out[1]
    tile = tile_of(features, block, itemsize, tiles, IMAGES * width)
    return tpu_budget.vmem((features, shape[1]), block, itemsize, tile)


def _vmem(variant: Variant) -> int | None:
    """Bytes of VMEM that the compiler asks for when it is given too few; None if those were enough."""
    try:
        compiled(variant.target, *_program(variant, tpu, limit=TOO_LITTLE))
    except jax.errors.JaxRuntimeError as error:
        return vmem_asked(str(error))
    return None


def _on_gpu(variant: Variant) -> dict[str, Any]:
    with heard() as text:
        found = compiled(variant.target, *_program(variant, gpu))
        said = read(text())
    room = _room(variant)
    return {
        **said._asdict(),
        "stages": room.stages,
        "shared_planned": room.bytes,
        "temporary": found.memory_analysis().temp_size_in_bytes,
        "problem": said.problem,
    }


def _room(variant: Variant) -> gpu_budget.Room:
    """Stages and bytes of shared memory that our budget gives the kernel."""
    most, (shape, block) = gpu.HOPPER.stages, variant.walked
    if variant.verb in PANELS:
        rings = Panels(SHAPE[0], shape, block[0], variant.capacity).rings()
        return gpu_budget.Room(STAGES, rings.bytes)
    if variant.verb.endswith("dW"):
        return gpu_budget.of_gradient(GROUPS * HALF, DEPTH, block[1], most)
    return gpu_budget.of_product(TILE, depth(block[0]), block[1], most)


def _program(
    variant: Variant, module: Any, **static: Any
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The product and its arguments' shapes. Raises ValueError where the backend refuses it."""
    layout, dtype = _layout(variant), jnp.dtype(variant.dtype)
    if reason := module.refusal(layout, dtype):
        raise ValueError(f"the backend refuses it: {reason}")
    array = lambda *shape: jax.ShapeDtypeStruct(shape, dtype)
    x, dy = (array(SHAPE[0], size) for size in variant.weight)
    packed = array(layout.capacity, *layout.block)
    names = dict(zip((*MATRIX, *PANELS), ("forward", "dx", "dw", "forward", "dx"), strict=True))
    if variant.verb in PANELS:
        static["launch"] = gpu.HOPPER._replace(panels=layout.block[:1])
    if variant.verb in CONVOLUTIONS:
        x, dy = array(IMAGES, *GEOMETRY.image), array(IMAGES, *GEOMETRY.out, OUTPUTS)
        names = dict(zip(CONVOLUTIONS, ("convolve", "convolve_dx", "convolve_dw"), strict=True))
        static["geometry"] = GEOMETRY
    run = functools.partial(getattr(module, names[variant.verb]), **static)
    if variant.verb.endswith("dW"):
        return run, (x, dy, layout)
    if variant.verb.endswith("dX"):
        return run, (dy, packed, layout)
    with_gelu = lambda *args: run(*args, activation="gelu")
    return with_gelu, (x, packed, layout, array(variant.weight[1]))


def _layout(variant: Variant) -> Layout:
    grid = grid_of(variant.weight, variant.block)
    build = lambda: from_mask(jnp.zeros(grid), variant.weight, variant.block, variant.capacity)
    return jax.eval_shape(build)
