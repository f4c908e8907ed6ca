"""Where a network multiplies by a kernel, and what multiplies by its live blocks in that place."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from sparsity.contract import Hook
from sparsity.kernels.convolution import block_sparse_convolution
from sparsity.kernels.geometry import Geometry
from sparsity.kernels.layout import Layout
from sparsity.kernels.ops import block_sparse_matmul
from sparsity.kernels.storage import live_blocks


class Site(NamedTuple):
    """A module's product x W + b, W its leaf "kernel" and b its "bias", where it has one. All static.

    module:     its path, "layer1/mlp_in".
    shape:      of the kernel.
    contracted: how many of the kernel's first axes are summed over, with as many last axes of x.
    rows:       of x as a matrix, per example (positions, where it is a convolution).
    dtype:      of the computation.
    geometry:   of a convolution; None for a product of matrices.
    refusal:    why no block-sparse product can take its place, in words; "" where one can.
    """

    module: str
    shape: tuple[int, ...]
    contracted: int
    rows: int
    dtype: str
    geometry: Geometry | None = None
    refusal: str = ""

    @property
    def pointwise(self) -> bool:
        """Whether it is a product of matrices, over pixels where it is a convolution of single ones."""
        return self.geometry is None or self.geometry.pointwise

    @property
    def matrix(self) -> tuple[int, int]:
        """(K, N) of the kernel as it multiplies."""
        inner, outer = self.shape[: self.contracted], self.shape[self.contracted :]
        return math.prod(inner), math.prod(outer)


def hook(
    site: Site,
    layout: Layout,
    scale: jax.Array | None = None,
    mesh: Mesh | None = None,
    path: str = "auto",
) -> Hook:
    """Runs the module on the live blocks of its kernel, which is dense or packed already.

    scale: (capacity,), a number per live block that is multiplied into it. mesh: devices that share the
    first axis of x; each multiplies its own part, and gradients are summed over them. path: of the
    products, "auto", "sparse" or "dense".
    """

    def run(compute: Callable[..., Any], params: Any, x: jax.Array) -> jax.Array:
        kernel, dtype = params["kernel"], jnp.dtype(site.dtype)
        packed = kernel if kernel.shape == (layout.capacity, *layout.block) else None
        if packed is None:
            packed = live_blocks(kernel.reshape(layout.shape), layout)
        bias = params["bias"].reshape(-1) if "bias" in params else None
        bias = None if bias is None else bias.astype(dtype)
        return _shared(_product(site, path), mesh)(x.astype(dtype), packed, layout, bias, scale)

    return run


def _product(site: Site, path: str) -> Callable[..., jax.Array]:
    def matrices(x, packed, layout, bias, scale):
        rows = x.reshape(*x.shape[: x.ndim - site.contracted], -1)
        y = block_sparse_matmul(rows, packed, layout, bias=bias, scale=scale, path=path)
        return y.reshape(*y.shape[:-1], *site.shape[site.contracted :])

    def images(x, packed, layout, bias, scale):
        return block_sparse_convolution(
            x, packed, layout, bias=bias, scale=scale, path=path, **_window(site.geometry)
        )

    return matrices if site.geometry is None else images


def _window(geometry: Geometry | None) -> dict[str, Any]:
    """How a convolution moves, as its product is told; nothing of a product of matrices."""
    fields = ("kernel", "strides", "padding") if geometry else ()
    return {name: getattr(geometry, name) for name in fields}


def _shared(run: Callable[..., jax.Array], mesh: Mesh | None) -> Callable[..., jax.Array]:
    """Each device's part of the batch on that device: XLA cannot cut a foreign function by itself."""
    if mesh is None:
        return run
    rows, whole = PartitionSpec(mesh.axis_names[0]), PartitionSpec()
    specs = (rows, whole, whole, whole, whole)
    return jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=rows)
