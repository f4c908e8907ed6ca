"""Residual networks: the CIFAR family (20, 32, 56, 110) and the ImageNet one (18, 34, 50).

He, Zhang, Ren, Sun, "Deep residual learning for image recognition", arXiv 1512.03385: section 4.2
for CIFAR, table 1 for ImageNet. Both are one module: a stem, stages of blocks, a mean over the
positions and a classifier. What differs is data: the stem, and the widths inside each block.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from sparsity.models.norms import batch_norm

Inner = tuple[tuple[tuple[int, ...], ...], ...]
SHORTCUTS = ("pad", "project")
CIFAR_BLOCKS = {20: 3, 32: 5, 56: 9, 110: 18}
IMAGENET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
# Variance 2 over the outputs, untruncated: He et al., arXiv 1502.01852, equation 14.
he = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Stem(NamedTuple):
    """The first convolution: its channels, side of the kernel, stride, and a pooling after it."""

    width: int
    kernel: int
    stride: int
    pool: bool


class Block(nn.Module):
    """A residual branch of 2 or 3 convolutions, its shortcut, and the ReLU after their sum.

    (N, H, W, C) -> (N, H / stride, W / stride, width). One inner width makes the basic block
    (3x3, 3x3), two make the bottleneck (1x1, 3x3, 1x1). The stride sits in the first 3x3
    convolution, also in the bottleneck ("v1.5"; the paper has it in the 1x1 before).
    """

    width: int
    inner: tuple[int, ...]
    stride: int
    shortcut: str
    zero_init: bool
    norm_groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv, norm = _layers(self.dtype, self.norm_groups, train)
        kernels = (3, 3) if len(self.inner) == 1 else (1, 3, 1)
        strides = (self.stride, 1) if len(self.inner) == 1 else (1, self.stride, 1)
        y, last = x, len(kernels)
        for i, width in enumerate((*self.inner, self.width), 1):
            y = conv(width, kernels[i - 1], strides[i - 1], name=f"conv{i}")(y)
            zero = self.zero_init and i == last
            scale = nn.initializers.zeros_init() if zero else nn.initializers.ones_init()
            y = norm(scale_init=scale, name=f"bn{i}")(y)
            y = y if i == last else nn.relu(y)
        if x.shape != y.shape and self.shortcut == "pad":
            x = _pad(x, self.stride, self.width)
        elif x.shape != y.shape:
            x = conv(self.width, 1, self.stride, name="downsample_conv")(x)
            x = norm(name="downsample_bn")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Called with images (N, H, W, C); returns float32 logits (N, classes).

    Modules are called `conv1`, `bn1`, `layer1_0` (with `conv1`, `bn1`, ..., and where there is a
    projection `downsample_conv`, `downsample_bn`), ..., and the classifier as said.

    Attributes:
      classes: number of classes.
      stem: the first convolution.
      stream: channels of the residual stream in each stage; each stage after the first halves the
        image.
      inner: per stage and block, the widths inside the branch (1 basic, 2 bottleneck).
      shortcut: where shapes differ, "pad" takes every second pixel and appends zero channels (the
        paper's option A, no parameters), "project" is a 1x1 convolution with a norm (option B).
      zero_init: start the scale of each branch's last norm at 0, so that a block starts as its
        shortcut (Goyal et al., arXiv 1706.02677, section 5.1).
      classifier: name of the last layer.
      norm_groups: parts of a training batch with statistics of their own (models/norms.py); 1 takes
        those of the global batch.
      dtype: type of the computation; parameters and statistics are float32.

    Raises:
      ValueError: for an unknown shortcut, stages that do not match, a block of no known kind, or
        a stream that narrows under the shortcut "pad".
    """

    classes: int
    stem: Stem
    stream: tuple[int, ...]
    inner: Inner
    shortcut: str
    zero_init: bool
    classifier: str
    norm_groups: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        _check(self)
        conv, norm = _layers(self.dtype, self.norm_groups, train)
        x = images.astype(self.dtype)
        x = conv(self.stem.width, self.stem.kernel, self.stem.stride, name="conv1")(x)
        x = nn.relu(norm(name="bn1")(x))
        if self.stem.pool:
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for s, (width, blocks) in enumerate(zip(self.stream, self.inner, strict=True)):
            for b, inner in enumerate(blocks):
                stride = 2 if s > 0 and b == 0 else 1
                rest = (self.shortcut, self.zero_init, self.norm_groups, self.dtype)
                x = Block(width, inner, stride, *rest, name=f"layer{s + 1}_{b}")(x, train)
        x = x.mean((1, 2))
        return nn.Dense(self.classes, dtype=self.dtype, name=self.classifier)(x).astype(jnp.float32)


def cifar(
    depth: int,
    *,
    classes: int,
    stream: tuple[int, ...] = (16, 32, 64),
    inner: Inner | None = None,
    shortcut: str = "pad",
    norm_groups: int = 1,
    dtype: Any = jnp.float32,
) -> ResNet:
    """A CIFAR ResNet of depth 20, 32, 56 or 110 (6n + 2), for images of 32x32, with a `head`.

    `inner` (per stage, per block, one width) defaults to the stream's width in every block.
    """
    inner = inner or tuple(((w,),) * CIFAR_BLOCKS[depth] for w in stream)
    stem = Stem(stream[0], 3, 1, False)
    rest = (shortcut, False, "head", norm_groups, dtype)
    return ResNet(classes, stem, stream, inner, *rest)


def imagenet(
    depth: int,
    *,
    classes: int,
    stream: tuple[int, ...] | None = None,
    inner: Inner | None = None,
    stem: int = 64,
    norm_groups: int = 1,
    dtype: Any = jnp.float32,
) -> ResNet:
    """An ImageNet ResNet of depth 18, 34 (basic) or 50 (bottleneck, v1.5), ending in `fc`.

    `stream` and `inner` default to the paper's widths: inside 64, 128, 256, 512 by stage, and the
    stream as wide (18, 34) or four times as wide (50).
    """
    blocks, widths = IMAGENET_BLOCKS[depth], (64, 128, 256, 512)
    stream = stream or tuple(4 * w if depth == 50 else w for w in widths)
    branch = 2 if depth == 50 else 1
    inner = inner or tuple(((w,) * branch,) * n for w, n in zip(widths, blocks, strict=True))
    rest = ("project", True, "fc", norm_groups, dtype)
    return ResNet(classes, Stem(stem, 7, 2, True), stream, inner, *rest)


def _layers(dtype: Any, groups: int, train: bool):
    """The convolution (width, kernel, stride) and the norm that all parts share."""

    def conv(width: int, kernel: int, stride: int, name: str) -> nn.Conv:
        # explicit padding: "SAME" would pad a stride of 2 on one side only
        pad = ((kernel // 2,) * 2,) * 2
        size, strides = (kernel, kernel), (stride, stride)
        return nn.Conv(
            width, size, strides, pad, use_bias=False, dtype=dtype, kernel_init=he, name=name
        )

    return conv, batch_norm(groups, train=train, dtype=dtype)


def _pad(x: jax.Array, stride: int, width: int) -> jax.Array:
    """Option A: every `stride`-th pixel, with zero channels appended up to `width`."""
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0),) * 3 + ((0, width - x.shape[-1]),))


def _check(net: ResNet) -> None:
    if net.shortcut not in SHORTCUTS:
        raise ValueError(f"unknown shortcut {net.shortcut!r}: there are {', '.join(SHORTCUTS)}")
    if len(net.stream) != len(net.inner):
        raise ValueError(f"{len(net.stream)} stream widths for {len(net.inner)} stages of blocks")
    bad = [inner for blocks in net.inner for inner in blocks if len(inner) not in (1, 2)]
    if bad:
        raise ValueError(f"a block has 1 or 2 inner widths, {bad[0]} was given")
    widths = (net.stem.width, *net.stream)
    if net.shortcut == "pad" and list(widths) != sorted(widths):
        raise ValueError(f"a padded shortcut cannot narrow the stream: its widths are {widths}")
