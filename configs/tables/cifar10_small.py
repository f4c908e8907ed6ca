"""All methods on CIFAR-10 at a size for two cores: a CNN of 2.1 million MACs, two epochs, no augmentation.

Reproduces nothing published. Blocks of 8x8, sparsities 80, 90 and 95%, three seeds, one trial a method: 66 runs,
an hour on two cores. The plans are percentages of the run, so that AC/DC's phases are of 39 steps here.

    python -m experiments.tables --config=configs/tables/cifar10_small.py
"""

from ml_collections import ConfigDict

from configs.cifar10 import EPOCH
from configs.tables import cifar10_cnn

ONE_SHOT = "magnitude, one-shot"
POWER = "PowerPropagation, one-shot"


def get_config() -> ConfigDict:
    """The table's config."""
    config = cifar10_cnn.get_config()
    config.title = "CIFAR-10, a small CNN, 2 epochs of batch 128"
    config.note = (
        "Two epochs are far from the end of training: a trial of the methods under a short budget."
    )
    config.set = {**config.set, "steps": 2 * EPOCH, "log_every": EPOCH}
    config.cells = {"blocks.block": [[8, 8]], "density": ["0.2", "0.1", "0.05"]}
    config.seeds = [30, 31, 32]
    config.arms = [
        *(arm for arm in config.arms if not arm["argument"].startswith("grid")),
        {"name": ONE_SHOT, "argument": "magnitude,plan=one_shot,model=cnn"},
        {"name": POWER, "argument": "powerprop,plan=one_shot,model=cnn"},
    ]
    same = cifar10_cnn.SAME
    config.claims = [
        *(claim for claim in config.claims if claim["better"] == same),
        {
            "claim": "SequentialAttention++ beats one-shot magnitude",
            "better": same,
            "worse": ONE_SHOT,
        },
        {"claim": "SequentialAttention++ beats PowerPropagation", "better": same, "worse": POWER},
        {
            "claim": "(not the paper's) SequentialAttention++ beats random blocks",
            "better": same,
            "worse": "random, from the start",
        },
    ]
    config.figure = config.claims[0]["claim"]
    return config
