"""The dense fall-back: the weight is unpacked and XLA multiplies. Right for every shape, dtype and device."""

import jax
import jax.numpy as jnp

from sparsity.kernels.activations import ACTIVATIONS
from sparsity.kernels.layout import Layout, pack, unpack


def refusal(layout: Layout, dtype: jnp.dtype) -> str:
    """Why this backend cannot run; "" where it can, which is everywhere."""
    return ""


def forward(
    x: jax.Array, packed: jax.Array, layout: Layout, bias: jax.Array | None, activation: str
) -> jax.Array:
    """activation(x @ W + bias): x (M, K) -> (M, N)."""
    y = _wide(x, unpack(packed, layout))
    if bias is not None:
        y = y + bias.astype(y.dtype)
    return ACTIVATIONS[activation](y).astype(x.dtype)


def dx(dy: jax.Array, packed: jax.Array, layout: Layout) -> jax.Array:
    """dy @ W.T: dy (M, N) -> (M, K)."""
    return _wide(dy, unpack(packed, layout).T).astype(dy.dtype)


def dw(x: jax.Array, dy: jax.Array, layout: Layout) -> jax.Array:
    """x.T @ dy at live blocks: (capacity, rows, cols), 0 in padding."""
    return pack(_wide(x.T, dy), layout).astype(x.dtype)


def _wide(a: jax.Array, b: jax.Array) -> jax.Array:
    """a @ b summed in float32 at least, and left so."""
    return jnp.matmul(a, b, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))
