"""What SequentialAttention++ is made of, on ImageNet: the sparsify phase, and scores of the attention.

Reproduces two comparisons of arXiv 2402.17902 in all 16 cells. Without a sparsify phase, dense and sparse phases
of equal lengths take turns and a dense one stands before the fine-tuning, which is AC/DC's plan. Nothing published
stands beside it: the heads of the preprint's table 3 do not fit its own differences from table 1, and which
column is which cell can be guessed, not read. Softmax against Frobenius scores (figure 2a of the published
version, whose numbers are not at hand) are two arms that differ in what ranks the blocks and in nothing else.
See configs/imagenet.py for what it needs.

    python -m experiments.tables --config=configs/tables/imagenet_ablations.py --print
"""

from ml_collections import ConfigDict

from configs.tables.imagenet import BLOCKS, DENSITIES, SAME, TOP1, row

FLAT, FROBENIUS = "no sparsify phase", "its plan and A, Frobenius norms rank"


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
    config.published = {SAME: row(TOP1[SAME])}
    config.claims = [
        {"claim": "the sparsify phase helps", "better": SAME, "worse": FLAT},
        {"claim": "softmax scores beat Frobenius scores", "better": SAME, "worse": FROBENIUS},
    ]
    config.figure = "softmax scores beat Frobenius scores"
    return config
