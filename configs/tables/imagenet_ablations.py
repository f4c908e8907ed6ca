"""What SequentialAttention++ is made of, on ImageNet: the sparsify phase, and scores of the attention.

Reproduces two comparisons of arXiv 2402.17902 in all 16 cells. Without a sparsify phase, dense and sparse phases
of equal lengths take turns and a dense one stands before the fine-tuning, which is AC/DC's plan; its figures are
those of the preprint's table 3, whose columns stand in another order than their heads say: they are read as
sparsity by block, the one reading under which its differences fit table 1. Softmax against Frobenius
scores (figure 2a of the published version, whose numbers are not at hand) are two arms that differ in what
ranks the blocks and in nothing else. See configs/imagenet.py for what it needs.

    python -m experiments.tables --config=configs/tables/imagenet_ablations.py --print
"""

from ml_collections import ConfigDict

from configs.tables.imagenet import BLOCKS, DENSITIES, SAME, TOP1, row

SOURCE = "arXiv 2402.17902v1, Table 3, its columns put in order"
FLAT, FROBENIUS = "no sparsify phase", "its plan and A, Frobenius norms rank"
# Top-1 in percent by side of the block, at 70, 80, 90 and 95%.
WITHOUT = {
    8: (74.194, 72.333, 68.152, None),
    16: (74.099, 72.666, 68.658, 61.922),
    32: (74.268, 73.346, 70.079, 61.405),
    64: (75.104, 74.320, 72.845, 69.678),
}


def get_config() -> ConfigDict:
    """The table's config."""
    config = ConfigDict(convert_dict=False)  # its mappings name fields of another config
    config.title = "ImageNet, ResNet-50: what SequentialAttention++ is made of"
    config.base = "configs/imagenet.py"
    config.set = {}
    config.cells = {"blocks.block": BLOCKS, "density": list(DENSITIES)}
    config.seeds = [0]
    ranked = {"method.mask": "softmax", "method.score": "l2", "method.clip": True}
    config.arms = [
        {"name": SAME, "argument": "sequential_attention"},
        {"name": FLAT, "argument": "sequential_attention,plan=phases"},
        {"name": FROBENIUS, "argument": "grid,plan=sequential_attention", "set": ranked},
    ]
    config.published = {SAME: row(TOP1[SAME]), FLAT: row(WITHOUT, SOURCE)}
    config.claims = [
        {"claim": "the sparsify phase helps", "better": SAME, "worse": FLAT},
        {"claim": "softmax scores beat Frobenius scores", "better": SAME, "worse": FROBENIUS},
    ]
    config.figure = "softmax scores beat Frobenius scores"
    return config
