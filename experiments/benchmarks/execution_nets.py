"""The networks that executions are measured on, of the size that a platform is used for."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Net(NamedTuple):
    """A network to measure on: its name in the registry, settings, images, batch, block and density."""

    name: str
    settings: dict[str, Any]
    image: tuple[int, int, int]
    batch: int
    block: int
    density: str = "0.1"


_HEADS = {"heads": (4,) * 4, "head_width": 64, "mlp": (2048,) * 4}
CPU = {
    "fashion": Net("mlp", {"widths": (256, 256)}, (28, 28, 1), 128, 16),
    "wide": Net("mlp", {"widths": (2048, 2048, 2048)}, (28, 28, 1), 256, 32),
    "vit": Net("vit", {"width": 256, **_HEADS}, (32, 32, 3), 16, 32),
    "resnet20": Net("resnet20", {}, (32, 32, 3), 64, 8),
}

# The kernels of an accelerator are for 16 bits.
_HALF = {"dtype": "bfloat16"}


def _vit(layers: int, width: int, batch: int, side: int, block: int) -> Net:
    """A ViT of patches of 16 x 16 whose perceptrons are four times as wide as it is, with heads of 64."""
    heads = {"heads": (width // 64,) * layers, "head_width": 64, "mlp": (4 * width,) * layers}
    settings = {"patch": 16, "width": width, **heads, **_HALF}
    return Net("vit", settings, (side, side, 3), batch, block)


_WIDE = Net("mlp", {"widths": (4096, 4096, 4096), **_HALF}, (64, 64, 1), 8192, 64)
# Of 64 tokens an image, so that products are most of its step.
_VIT = _vit(8, 1024, 256, 128, 64)
GPU = {
    "wide-64": _WIDE,
    "vit-64": _VIT,
    "resnet50": Net("resnet50", _HALF, (224, 224, 3), 128, 64),
    "vit-b16": _vit(12, 768, 64, 224, 64),
    "wide-128": _WIDE._replace(block=128),
    "vit-128": _VIT._replace(block=128),
    "wide-32": _WIDE._replace(block=32),
    # Too small for its kernels to gain.
    "small": Net("mlp", {"widths": (1024, 1024), **_HALF}, (32, 32, 1), 1024, 64),
}


def nets(platform: str) -> Mapping[str, Net]:
    """What is measured on a platform ("cpu", "gpu" or "tpu"), the telling ones first."""
    return CPU if platform == "cpu" else GPU
