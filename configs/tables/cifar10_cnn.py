"""A sub-grid on CIFAR-10 with a CNN of 2.1 million MACs: blocks of 8x8, 90%, ten epochs, no augmentation.

Reproduces nothing published: what the Fashion-MNIST table finds is tried with convolutions. The arms are the
dense network, random blocks, gradual magnitude, AC/DC, SequentialAttention++ and the two best of the grid there;
each is run as it comes, one trial a method.

    python -m experiments.tables --config=configs/tables/cifar10_cnn.py
"""

from ml_collections import ConfigDict

SAME, GRADUAL = "SequentialAttention++", "magnitude, gradual (cubic)"
CUBIC = "PowerPropagation, cubic"
BEST = "Hoff product, Frobenius norms rank, cubic"


def _arm(name: str, argument: str, **fields) -> dict:
    return {"name": name, "argument": f"{argument},model=cnn", "set": fields}


def get_config() -> ConfigDict:
    """The table's config."""
    config = ConfigDict(convert_dict=False)  # its mappings name fields of another config
    config.title = "CIFAR-10, a small CNN, 10 epochs of batch 128"
    config.base = "configs/cifar10.py"
    config.set = {
        "model.widths": [8, 32, 64],
        "data.augment": False,
        "steps": 3900,
        "log_every": 390,
        "evaluate_every": 0,
        "save_every": 0,
    }
    config.cells = {"blocks.block": [[8, 8]], "density": ["0.1"]}
    config.seeds = [20, 21, 22]
    config.arms = [
        _arm("dense", "dense"),
        _arm("random, from the start", "random,plan=static"),
        _arm(GRADUAL, "magnitude,plan=gradual"),
        _arm("AC/DC", "magnitude,plan=acdc"),
        _arm(SAME, "sequential_attention"),
        _arm(CUBIC, "powerprop,plan=gradual"),
        _arm(BEST, "grid,plan=gradual", **{"method.mask": "hoff", "method.score": "l2"}),
    ]
    config.claims = [
        {"claim": "SequentialAttention++ beats AC/DC", "better": SAME, "worse": "AC/DC"},
        {
            "claim": "(not the paper's) SequentialAttention++ beats gradual magnitude",
            "better": SAME,
            "worse": GRADUAL,
        },
        {
            "claim": "(not the paper's) PowerPropagation under the cubic plan beats gradual magnitude",
            "better": CUBIC,
            "worse": GRADUAL,
        },
        {
            "claim": "(not the paper's) the Hoff product beats gradual magnitude",
            "better": BEST,
            "worse": GRADUAL,
        },
    ]
    return config
