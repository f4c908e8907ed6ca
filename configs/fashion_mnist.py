"""Fashion-MNIST (70,000 drawings of clothes, 28x28) and an MLP of 784-256-256-10, in blocks of 16x16.

Reproduces nothing published: it is the smallest experiment whose layers have hundreds of blocks.
Expected accuracy: see docs/results/fashion_mnist.md. The files go under $SPARSITY_DATA; a run without them says which.

    python -m experiments.train --config=configs/fashion_mnist.py:magnitude --workdir=runs/fashion
"""

from ml_collections import ConfigDict

from configs.base import base

EPOCH = 60_000 // 128  # steps


def get_config(argument: str = "") -> ConfigDict:
    """The config; `argument` names the method, plan, model and optimizer."""
    config = base(argument)
    config.data.name = "fashion_mnist"
    if config.model.name == "mlp":
        config.model.widths = (256, 256)
    config.blocks.block = (16, 16)
    config.steps = 8 * EPOCH
    config.log_every = EPOCH
    config.evaluate_every = EPOCH
    config.save_every = EPOCH
    return config
