"""How steep the ramp of SequentialAttention++ is, on ImageNet at 90%: c = 2, 4 and 8, blocks of 8 to 64.

Reproduces the ablation of c of arXiv 2402.17902 (appendix C); the method's own c is 4. See configs/imagenet.py
for what it needs.

    python -m experiments.tables --config=configs/tables/imagenet_ramp.py --print
"""

from ml_collections import ConfigDict

from configs.tables.imagenet import BLOCKS, SIDES, figure

SOURCE = "arXiv 2402.17902v1, the ablation of c"
# Top-1 in percent by side of the block.
TOP1 = {
    2: (69.403, 69.613, 70.614, 72.264),
    4: (69.560, 69.920, 70.817, 72.756),
    8: (69.202, 70.036, 70.976, 72.614),
}


def get_config() -> ConfigDict:
    """The table's config."""
    config = ConfigDict(convert_dict=False)  # its mappings name fields of another config
    config.title = "ImageNet, ResNet-50 at 90%: the ramp's c"
    config.base = "configs/imagenet.py"
    config.set = {}
    config.cells = {"blocks.block": BLOCKS, "density": ["0.1"]}
    config.seeds = [0]
    config.arms = [
        {"name": f"c = {c}", "argument": "sequential_attention", "set": {"plan.c": float(c)}}
        for c in TOP1
    ]
    config.published = {
        f"c = {c}": {
            f"{side}x{side}, 90%": figure(top1, SOURCE)
            for side, top1 in zip(SIDES, line, strict=True)
        }
        for c, line in TOP1.items()
    }
    config.claims = []
    return config
