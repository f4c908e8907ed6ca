"""What the sweeps on Fashion-MNIST share: an MLP of 784-256-256-10, 95% of 16x16 blocks, a validation split."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


def named(title: str, points: Mapping[str, Mapping[str, Any]]) -> ConfigDict:
    """A sweep over named points, three seeds each."""
    config = ConfigDict(convert_dict=False)  # its mappings name fields of another config
    config.title = title
    config.base = "configs/fashion_mnist.py"
    config.set = {
        "blocks.block": [16, 16],
        "density": "0.05",
        "data.validation": 0.1,
        "save_every": 0,
        "evaluate_every": 0,
    }
    config.seeds = [0, 1, 2]
    config.sweep = {"named": points}
    return config
