"""CIFAR-10 and a ResNet-20, in blocks of 8x8; `model=cnn` takes the small CNN, `model=resnet56` a deeper one.

Reproduces nothing published. The recipe is the usual one for these networks (He et al., arXiv 1512.03385,
section 4.2): batches of 128, SGD at 0.1 with momentum 0.9 and weight decay 1e-4, crops and flips, 160
epochs. Unlike the paper, the rate falls as a cosine, not in two drops. At blocks of 8x8 the first stage of
a ResNet-20 has 36 blocks a layer and stays dense. Expected accuracy: not yet measured. The files go under
$SPARSITY_DATA; a run without them says which.

    python -m experiments.train --config=configs/cifar10.py:sequential_attention --workdir=runs/cifar10
    python -m experiments.train --config=configs/cifar10.py:magnitude,model=cnn --workdir=runs/cifar10_cnn
"""

from ml_collections import ConfigDict

from configs.base import base

EPOCH = 50_000 // 128  # steps


def get_config(argument: str = "") -> ConfigDict:
    """The config; `argument` names the method, plan, model and optimizer."""
    config = base(argument, model="resnet20")
    config.data.name = "cifar10"
    config.data.augment = True
    config.steps = 160 * EPOCH
    config.log_every = EPOCH
    config.evaluate_every = 5 * EPOCH
    config.save_every = 5 * EPOCH
    return config
