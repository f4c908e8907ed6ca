"""The grid of masks, reparametrisations and scores under the cubic plan: Fashion-MNIST, MLP, 95% of 16x16.

Which combination goes to the table of configs/tables/fashion_mnist.py as the best of the grid is chosen here.

    python -m experiments.sweep --config=configs/sweeps/combinations.py
"""

from ml_collections import ConfigDict

from configs.sweeps.base import named

PAIRS = (
    ("none", "l2"),
    ("none", "l1"),
    ("none", "fisher"),
    ("none", "saliency"),
    ("softmax", "l2"),
    ("exponential", "l2"),
    ("exponential", "attention"),
    ("hoff", "l2"),
    ("hoff", "attention"),
    ("sigmoid", "l2"),
    ("powerprop", "l2"),
    ("block_powerprop", "l2"),
    ("block_powerprop", "fisher"),
    ("block_powerprop", "saliency"),
)
CUBIC = "grid,plan=gradual"
EARLY = {"plan.train": "5%", "plan.sparsify": "75%", "plan.finetune": "20%"}
POWER = {"method.mask": "block_powerprop", "method.score": "l2"}
OTHERS = {
    "block_powerprop, l2, alpha 1.5": {**POWER, "method.alpha": 1.5},
    "block_powerprop, l2, alpha 3": {**POWER, "method.alpha": 3.0},
    "block_powerprop, l2, an earlier ramp": {**POWER, **EARLY},
    "block_powerprop, l2, the cycles of SequentialAttention++": {
        **POWER,
        "argument": "grid,plan=sequential_attention",
    },
}


def get_config() -> ConfigDict:
    """The sweep's config."""
    pairs = {f"{m}, {s}": {"method.mask": m, "method.score": s} for m, s in PAIRS}
    points = {name: {"argument": CUBIC, **fields} for name, fields in {**pairs, **OTHERS}.items()}
    return named("Masks and scores under the cubic plan, on Fashion-MNIST", points)
