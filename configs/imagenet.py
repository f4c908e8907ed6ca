"""ImageNet and a ResNet-50 v1.5 in blocks of 16x16, 90 epochs: a cell of the paper's table (arXiv 2402.17902).

Reproduces table 1 of SequentialAttention++: `sequential_attention`, `magnitude,plan=acdc` (AC/DC),
`magnitude,plan=one_shot` and `powerprop` (the one-shot baselines), `magnitude` (gradual, which the paper
leaves out) and `dense`, with blocks.block 8, 16, 32 or 64 and density 0.3, 0.2, 0.1 or 0.05; all cells at once
are configs/tables/imagenet.py. Expected top-1 of the dense network: 76.90; at 90% of 16x16, 69.92 for
SequentialAttention++ and 68.61 for AC/DC (published, not measured here).

Said in the paper: batches of 2048, SGD with momentum and weight decay, a peak rate of 0.8 under a cosine, 90
epochs, the plans, the classifier pruned, layers of fewer than 100 blocks dense. Left open by it, and set here
as in Goyal et al. (arXiv 1706.02677), whose rate of 0.1 per 256 it shares: momentum 0.9 (not Nesterov's),
weight decay 1e-4 on matrices only, 5 epochs of linear warm-up. No label smoothing; crops and flips as usual;
batch norm over the whole batch (`model.norm_groups=64` takes 32 images at a time). The one-shot baselines
prune after 85% of the steps and fine-tune for 15%. AC/DC zeroes dead weights here. The attention is clipped
(appendix C.1), to [density, 1/density]: the range that the paper prints fits no normalisation of it.

The pictures lie under $SPARSITY_DATA as TFDS stores them (imagenet2012, TFRecord or ArrayRecord), or as folders
of JPEGs (`--config.data.name=folder:imagenet2012`). A run takes about a day on one accelerator that trains
1,300 images a second. A dry run needs neither the pictures nor the accelerator.

    python -m experiments.train --config=configs/imagenet.py:sequential_attention --workdir=runs/imagenet
    python -m experiments.train --config=configs/imagenet.py:magnitude,plan=acdc --config.density=0.05 --dry_run
"""

from ml_collections import ConfigDict

from configs.base import base

EPOCH = 1_281_167 // 2048  # steps
# `plan=phases`: no sparsify phase. AC/DC's lengths; unlike there the optimiser is reset at each phase, and dead
# weights are kept.
SPARSE = {"kind": "sparse", "length": "5%", "reset": "restarted"}
DENSE = {"kind": "dense", "length": "5%", "reset": "restarted"}
RAMPLESS = (
    {"kind": "dense", "length": "10%"},
    *(6 * (SPARSE, DENSE)),
    SPARSE,
    {**DENSE, "length": "10%"},
    {"kind": "finetune", "length": "15%", "reset": "restarted"},
)


def get_config(argument: str = "") -> ConfigDict:
    """The config; `argument` names the method, plan, model and optimizer."""
    config = base(argument, model="resnet50")
    config.data.name = "tfds:imagenet2012"
    config.data.stream = True
    config.data.augment = True
    if "dtype" in config.model:
        config.model.dtype = "bfloat16"
    config.batch = 2048
    config.steps = 90 * EPOCH
    config.blocks.block = (16, 16)
    if config.plan.name == "phases":
        config.plan.phases = RAMPLESS
    if config.method.name == "sequential_attention":
        config.method.clip = True
    if config.optimizer.name == "sgd":
        config.optimizer.learning_rate = 0.8
    config.optimizer.warmup = 5 * EPOCH
    config.log_every = 100
    config.evaluate_every = 5 * EPOCH
    config.save_every = EPOCH
    return config
