"""AC/DC without blocks on ImageNet at 90%, global over the layers: the check that a training recipe is sound.

Reproduces the sanity check of arXiv 2402.17902, whose own run of it gave 75.01 where AC/DC's authors have 75.03
(arXiv 2106.12379, 100 epochs). If ours does not come close, the recipe is to blame, and not the blocks. See
configs/imagenet.py for what it needs.

    python -m experiments.tables --config=configs/tables/imagenet_unstructured.py --print
"""

from ml_collections import ConfigDict

from configs.tables.imagenet import ACDC, figure

TOP1 = 75.01


def get_config() -> ConfigDict:
    """The table's config."""
    config = ConfigDict(convert_dict=False)  # its mappings name fields of another config
    config.title = "ImageNet, ResNet-50, single weights, 90 epochs of batch 2048"
    config.base = "configs/imagenet.py"
    config.set = {}
    config.cells = {"blocks.block": [[1, 1]], "density": ["0.1"]}
    config.seeds = [0]
    whole = {"method.select": "globally"}
    config.arms = [{"name": ACDC, "argument": "magnitude,plan=acdc", "set": whole}]
    source = "arXiv 2402.17902v1, its own run of unstructured AC/DC"
    config.published = {ACDC: {"1x1, 90%": figure(TOP1, source)}}
    config.claims = []
    return config
