"""The CPU's backend: the kernel of block_sparse.cc, batch-major, on all of the process's cores.

x is (M, K) and y is (M, N), as a dense layer has them: packing x inside the kernel measures better than
feature-major activations between layers. Columns may hold any number of live blocks.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sparsity.kernels import native
from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.layout import Layout
from sparsity.kernels.manual import vary_like, varying

DTYPES = ("float32", "bfloat16")


def refusal(layout: Layout, dtype: jnp.dtype) -> str:
    """Why this backend cannot run, in words; "" where it can."""
    if jnp.dtype(dtype).name not in DTYPES:
        return f"the CPU's kernel is for {' and '.join(DTYPES)}, not {jnp.dtype(dtype).name}"
    return native.missing()


def forward(
    x: jax.Array, packed: jax.Array, layout: Layout, bias: jax.Array | None, activation: str
) -> jax.Array:
    """activation(x @ W + bias): x (M, K) -> (M, N)."""
    y = _call(
        "block_sparse_product",
        (x.shape[0], layout.shape[1]),
        x,
        packed,
        layout.col_starts,
        layout.rows,
        layout.by_row,
        jnp.zeros(1, x.dtype) if bias is None else bias.astype(x.dtype),
        transposed=False,
        has_bias=bias is not None,
        relu=activation == "relu",
    )
    # XLA's tanh is vectorised and fused with what follows.
    return ACTIVATIONS[activation](y) if activation == "gelu" else y


def dx(dy: jax.Array, packed: jax.Array, layout: Layout) -> jax.Array:
    """dy @ W.T: dy (M, N) -> (M, K)."""
    return _call(
        "block_sparse_product",
        (dy.shape[0], layout.shape[0]),
        dy,
        packed,
        layout.row_starts,
        layout.cols,
        layout.by_row,
        jnp.zeros(1, dy.dtype),
        transposed=True,
        has_bias=False,
        relu=False,
    )


def dw(x: jax.Array, dy: jax.Array, layout: Layout) -> jax.Array:
    """x.T @ dy at live blocks: (capacity, rows, cols), 0 in padding."""
    shape = (layout.capacity, *layout.block)
    return _call("block_sparse_gradient", shape, x, dy, layout.col_starts, layout.rows)


def _call(target: str, shape: tuple[int, ...], x: jax.Array, *args: Any, **static: Any) -> Any:
    """A result of x's dtype. An operand that vmap shares keeps an axis of 1: the kernel walks the batch."""
    out = jax.ShapeDtypeStruct(shape, x.dtype)
    call = jax.ffi.ffi_call(target, out, vmap_method="expand_dims")
    return vary_like(call(x, *args, **static), varying(x))
