"""The paper's ImageNet table: ResNet-50, blocks of 8 to 64, sparsities of 70 to 95% (arXiv 2402.17902, section 4).

Reproduces the table of SequentialAttention++ with its four methods, and gradual magnitude pruning, which it
leaves out: 16 cells of each and the dense network, 81 runs of 90 epochs. The paper's figures stand beside ours
where we have them: those of AC/DC and SequentialAttention++ from the first version of the preprint, which lacks
the two baselines. Blocks of 32 and 64 reach less than is asked over the whole network, as layers of fewer than
100 blocks stay dense: 68, 78, 88, 92 and 58, 66, 74, 79%, the same as printed there. A seed a cell, as the paper does not say
how many it ran. Needs the pictures and accelerators: see configs/imagenet.py; --print writes the commands.

    python -m experiments.tables --config=configs/tables/imagenet.py --print
"""

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

SIDES = (8, 16, 32, 64)
BLOCKS = [[side, side] for side in SIDES]
SPARSITIES = ("70%", "80%", "90%", "95%")
DENSITIES = ("0.3", "0.2", "0.1", "0.05")
SAME, ACDC = "SequentialAttention++", "AC/DC"
SHOT, POWER = "magnitude, one-shot", "PowerPropagation, one-shot"
GRADUAL = "magnitude, gradual (cubic)"
SOURCE = "arXiv 2402.17902v1, Table 1"
DENSE = 76.90
# Top-1 in percent by side of the block, at 70, 80, 90 and 95%; None has diverged.
TOP1 = {
    ACDC: {
        8: (74.11, 72.47, 67.74, None),
        16: (74.08, 72.56, 68.61, 61.42),
        32: (74.40, 72.39, 68.96, 63.03),
        64: (75.18, 74.49, 71.95, 67.36),
    },
    SAME: {
        8: (74.14, 72.90, 69.56, None),
        16: (74.40, 73.50, 69.92, 64.27),
        32: (74.82, 73.78, 70.82, 65.41),
        64: (75.53, 74.52, 72.76, 70.30),
    },
}


def get_config() -> ConfigDict:
    """The table's config."""
    config = ConfigDict(convert_dict=False)  # its mappings name fields of another config
    config.title = "ImageNet, ResNet-50, 90 epochs of batch 2048"
    config.base = "configs/imagenet.py"
    config.set = {}
    config.cells = {"blocks.block": BLOCKS, "density": list(DENSITIES)}
    config.seeds = [0]
    config.arms = [
        {"name": "dense", "argument": "dense"},
        {"name": SHOT, "argument": "magnitude,plan=one_shot"},
        {"name": POWER, "argument": "powerprop,plan=one_shot"},
        {"name": ACDC, "argument": "magnitude,plan=acdc"},
        {"name": SAME, "argument": "sequential_attention"},
        {"name": GRADUAL, "argument": "magnitude,plan=gradual"},
    ]
    config.published = {"dense": {"": figure(DENSE)}}
    config.published |= {arm: row(by_side) for arm, by_side in TOP1.items()}
    config.claims = [
        {"claim": f"SequentialAttention++ beats {said}", "better": SAME, "worse": worse}
        for said, worse in (("one-shot magnitude", SHOT), ("PowerPropagation", POWER), (ACDC, ACDC))
    ]
    config.gain = f"SequentialAttention++ beats {ACDC}"
    return config


def figure(top1: float | None, source: str = SOURCE) -> dict:
    """A published top-1 accuracy in percent; None for a run that the paper marks as diverged."""
    said = {} if top1 is not None else {"said": "diverged"}
    return {"value": top1, "source": source, **said}


def row(by_side: Mapping[int, Sequence[float | None]]) -> dict:
    """The published figures of an arm by the cells that the tables print."""
    return {
        f"{side}x{side}, {sparsity}": figure(top1)
        for side, line in by_side.items()
        for sparsity, top1 in zip(SPARSITIES, line, strict=True)
    }
