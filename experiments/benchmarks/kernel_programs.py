"""The programs of a kernel benchmark: one layer's products, dense, on live blocks, and by other packages."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.benchmarks.kernel_clock import Program
from experiments.benchmarks.kernel_layers import Layer, mask_at
from sparsity.kernels.blocks import unpack
from sparsity.kernels.columns import from_array
from sparsity.kernels.convolution import block_sparse_convolution
from sparsity.kernels.gpu.shares import Panels
from sparsity.kernels.layout import Layout
from sparsity.kernels.ops import block_sparse_matmul
from sparsity.kernels.platforms import here


@functools.lru_cache(maxsize=1)
def arrays(layer: Layer, dtype: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x, the dense weight (K, N) and a gradient of the result."""
    geometry, rng = layer.geometry, np.random.default_rng(0)
    inside = layer.shape[:1] if geometry is None else geometry.image
    outside = layer.shape[1:] if geometry is None else (*geometry.out, layer.shape[1])
    shapes = ((layer.count, *inside), layer.shape, (layer.count, *outside))
    x, w, dy = (jnp.asarray(rng.standard_normal(s, np.float32), dtype) for s in shapes)
    return x, w, dy


def dense(layer: Layer, dtype: str) -> dict[str, Program]:
    """XLA's own: forward, dX, dW and the whole step, which is the value and both gradients."""
    x, w, dy = arrays(layer, dtype)
    run = partial(_dense_product, layer)
    back = lambda which: lambda x, w, dy: jax.vjp(run, x, w)[1](dy)[which]
    return {
        "dense forward": (jax.jit(run), (x, w)),
        "dense dX": (jax.jit(back(0)), (x, w, dy)),
        "dense dW": (jax.jit(back(1)), (x, w, dy)),
        "dense step": (jax.jit(partial(_step, run)), (x, w, dy)),
    }


def sparse(layer: Layer, dtype: str, side: int, percent: float, path: str) -> dict[str, Program]:
    """The same four on packed blocks at a density in per cent."""
    x, _, dy = arrays(layer, dtype)
    packed, layout = held(layer, dtype, side, percent)
    args = (x, packed, layout)
    run = partial(_sparse_product, layer, path)
    step = lambda x, p, layout, dy: _step(lambda x, p: run(x, p, layout), x, p, dy)
    back = lambda which: lambda *args: step(*args)[1][which]
    return {
        "forward": (jax.jit(run), args),
        "dX": (jax.jit(back(0)), (*args, dy)),
        "dW": (jax.jit(back(1)), (*args, dy)),
        "step": (jax.jit(step), (*args, dy)),
    }


def unbalanced(layer: Layer, dtype: str, side: int, percent: float) -> dict[str, Program]:
    """The forward product where columns have unlike live counts."""
    x, _, _ = arrays(layer, dtype)
    packed, layout = held(layer, dtype, side, percent, unbalanced=True)
    run = jax.jit(partial(_sparse_product, layer, "sparse"))
    return {"forward, unbalanced": (run, (x, packed, layout))}


def rivals(layer: Layer, dtype: str, side: int, percent: float) -> dict[str, Program]:
    """The forward product by each of a GPU's two kernels, where a panel of x could stay; nothing elsewhere."""
    if here() != "cuda" or layer.geometry:
        return {}
    # It needs more than a bare machine without a GPU has.
    from sparsity.kernels.gpu import backend as gpu

    packed, layout = held(layer, dtype, side, percent)
    static = Panels(layer.count, layer.shape, side, layout.capacity)
    if not static.worthwhile(gpu.HOPPER.programs):
        return {}
    args = (arrays(layer, dtype)[0], packed, layout)
    run = lambda launch, x, p, layout: gpu.forward(x, p, layout, None, "none", launch)
    by = lambda *sides: jax.jit(partial(run, gpu.HOPPER._replace(panels=sides)))
    return {"forward, on panels": (by(side), args), "forward, in tiles": (by(), args)}


def held(
    layer: Layer, dtype: str, side: int, percent: float, unbalanced: bool = False
) -> tuple[jax.Array, Layout]:
    """The live blocks and their layout at a density in per cent; made on the host, as nothing then compiles."""
    mask = mask_at(layer, side, percent, unbalanced)
    w = np.asarray(arrays(layer, dtype)[1])
    matrix = from_array(w, (side, side), mask)
    return matrix.blocks, matrix.layout


def peers(layer: Layer, side: int, percent: float) -> dict[str, Program]:
    """scipy's BSR, jax's BCSR and torch's BSR, those that are installed; forward, float32, on a CPU."""
    try:
        import scipy.sparse
        from jax.experimental import sparse as jax_sparse
    except ImportError:
        return {}
    x, _, _ = arrays(layer, "float32")
    # They hold the transpose and multiply columns.
    w = np.asarray(unpack(*held(layer, "float32", side, percent))).T
    columns = jnp.asarray(x.T)
    bcsr = jax_sparse.BCSR.from_scipy_sparse(scipy.sparse.csr_matrix(w))
    found: dict[str, Program] = {"jax BCSR": (jax.jit(lambda a, b: a @ b), (bcsr, columns))}
    if not any(n % side for n in layer.shape):
        bsr = scipy.sparse.bsr_matrix(w, blocksize=(side, side))
        found["scipy BSR"] = (lambda a, b: a @ b, (bsr, np.asarray(columns)))
        found |= _torch(bsr, np.asarray(columns))
    return found


def copy(megabytes: int) -> Program:
    """Reads and writes so many megabytes once: what memory gives."""
    x = jnp.ones(megabytes * 2**18, jnp.float32)
    return jax.jit(lambda x: x + 1), (x,)


def _torch(bsr: Any, columns: np.ndarray) -> dict[str, Program]:
    try:
        import torch  # pyrefly: ignore[missing-import]
    except ImportError:
        return {}
    parts = (torch.from_numpy(a) for a in (bsr.indptr, bsr.indices, bsr.data))
    held = torch.sparse_bsr_tensor(*parts, size=bsr.shape)
    return {"torch BSR": (lambda a, b: a @ b, (held, torch.from_numpy(columns)))}


def _step(run: Callable[..., jax.Array], x: jax.Array, w: jax.Array, dy: jax.Array) -> Any:
    y, back = jax.vjp(run, x, w)
    return y, back(dy)


def _dense_product(layer: Layer, x: jax.Array, w: jax.Array) -> jax.Array:
    geometry = layer.geometry
    if geometry is None:
        return x @ w
    kernel = w.reshape(*geometry.kernel, geometry.image[2], w.shape[1])
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, geometry.strides, geometry.padding, dimension_numbers=numbers
    )


def _sparse_product(
    layer: Layer, path: str, x: jax.Array, packed: jax.Array, layout: Layout
) -> jax.Array:
    geometry = layer.geometry
    if geometry is None:
        return block_sparse_matmul(x, packed, layout, path=path)
    static = {"kernel": geometry.kernel, "strides": geometry.strides}
    return block_sparse_convolution(x, packed, layout, path=path, **static)
