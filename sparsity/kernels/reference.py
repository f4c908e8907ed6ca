"""What the block-sparse product means, in plain jnp: the definition that every backend agrees with."""

import jax
import jax.numpy as jnp

from sparsity.kernels.activations import ACTIVATIONS, check_activation
from sparsity.kernels.blocks import inside, unpack
from sparsity.kernels.layout import Layout


def block_sparse_matmul(
    x: jax.Array,
    packed: jax.Array,
    layout: Layout,
    *,
    bias: jax.Array | None = None,
    activation: str | None = None,
    scale: jax.Array | None = None,
) -> jax.Array:
    """activation(x @ (scale * W) + bias), summed in float32 at least, in x's dtype.

    x (..., K); packed (capacity, rows, cols); bias (N,); scale (capacity,), one number per block in the
    packed order; the result is (..., N).
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    blocks = jnp.where(inside(layout), packed, 0).astype(wide)
    if scale is not None:
        blocks = blocks * jnp.where(layout.live, scale, 0).astype(wide)[:, None, None]
    y = jnp.matmul(x.astype(wide), unpack(blocks, layout), precision="highest")
    if bias is not None:
        y = y + bias.astype(wide)
    return ACTIVATIONS[check_activation(activation)](y).astype(x.dtype)
