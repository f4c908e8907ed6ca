"""A small vision transformer.

Dosovitskiy et al., "An image is worth 16x16 words", arXiv 2010.11929. Unlike the paper, the
classifier reads the mean over the tokens, there is no class token, and nothing is dropped out.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class Layer(nn.Module):
    """Self-attention and a perceptron, each after a norm and added to its input.

    (N, T, d) -> (N, T, d). With k = `head_width`: the kernels of `query`, `key` and `value` have
    shape (d, heads, k), that of `out` has (heads, k, d), `mlp_in` (d, mlp), `mlp_out` (mlp, d).
    """

    heads: int
    head_width: int
    mlp: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, _: None = None) -> tuple[jax.Array, None]:
        width = x.shape[-1]
        y = nn.LayerNorm(dtype=self.dtype, name="norm1")(x)
        split = (self.heads, self.head_width)
        q, k, v = (
            nn.DenseGeneral(split, dtype=self.dtype, name=name)(y)
            for name in ("query", "key", "value")
        )
        y = jax.nn.dot_product_attention(q, k, v)
        x = x + nn.DenseGeneral(width, axis=(-2, -1), dtype=self.dtype, name="out")(y)
        y = nn.LayerNorm(dtype=self.dtype, name="norm2")(x)
        y = nn.gelu(nn.Dense(self.mlp, dtype=self.dtype, name="mlp_in")(y))
        return x + nn.Dense(width, dtype=self.dtype, name="mlp_out")(y), None


class ViT(nn.Module):
    """Patches, learned positions, pre-norm layers, a norm, and a classifier called `head`.

    Called with images (N, H, W, C); returns float32 logits (N, classes). The layers are `layer1`,
    `layer2`, ...; with `scan_layers` they are one module `layers` whose parameters have a leading
    axis over the layers, and one layer is compiled instead of all.

    Attributes:
      classes: number of classes.
      patch: side of a patch in pixels.
      width: entries per token, d.
      heads: heads of each layer; as many entries as layers.
      head_width: entries per head, k.
      mlp: hidden width of each layer's perceptron; as many entries as layers.
      scan_layers: whether the layers are stacked; they must then be equal.
      dtype: type of the computation; parameters are float32.

    Raises:
      ValueError: when patches do not tile the image, or the layers' widths do not fit together.
    """

    classes: int
    patch: int = 4
    width: int = 64
    heads: tuple[int, ...] = (4, 4, 4, 4)
    head_width: int = 16
    mlp: tuple[int, ...] = (128, 128, 128, 128)
    scan_layers: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        del train  # nothing here differs between training and evaluation
        _check(self, images.shape)
        side = (self.patch, self.patch)
        x = nn.Conv(self.width, side, side, dtype=self.dtype, name="embed")(images)
        x = x.reshape(x.shape[0], -1, self.width)
        normal = nn.initializers.normal(0.02)
        x = x + self.param("positions", normal, x.shape[1:], jnp.float32).astype(self.dtype)
        x = _scanned(self, x) if self.scan_layers else _unrolled(self, x)
        x = nn.LayerNorm(dtype=self.dtype, name="norm")(x).mean(1)
        return nn.Dense(self.classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)


def _unrolled(net: ViT, x: jax.Array) -> jax.Array:
    for i, (heads, mlp) in enumerate(zip(net.heads, net.mlp, strict=True), 1):
        x, _ = Layer(heads, net.head_width, mlp, net.dtype, name=f"layer{i}")(x)
    return x


def _scanned(net: ViT, x: jax.Array) -> jax.Array:
    stacked = nn.scan(
        Layer,
        variable_axes={"params": 0, "intermediates": 0},
        split_rngs={"params": True},
        length=len(net.heads),
    )
    return stacked(net.heads[0], net.head_width, net.mlp[0], net.dtype, name="layers")(x, None)[0]


def _check(net: ViT, shape: tuple[int, ...]) -> None:
    if shape[1] % net.patch or shape[2] % net.patch:
        raise ValueError(
            f"patches of {net.patch}x{net.patch} do not tile images of {shape[1]}x{shape[2]}"
        )
    if len(net.heads) != len(net.mlp) or not net.heads:
        raise ValueError(
            f"one entry per layer: {len(net.heads)} heads and {len(net.mlp)} mlp widths were given"
        )
    if net.scan_layers and len({*zip(net.heads, net.mlp, strict=True)}) > 1:
        raise ValueError(
            f"stacked layers must be equal, these are not: heads {net.heads}, mlp {net.mlp}"
        )
