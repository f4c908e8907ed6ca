"""Criteo's click logs, the network of SequentialAttention++ (arXiv 2402.17902, section 4.2 and appendix C).

39 embeddings of width 10, three dense layers of 400, of which the first (390 x 400) is pruned; Adam, rate
2e-2 falling exponentially to 3e-4, batch 32768, 25 epochs of 33,003,326 rows. Reproduces the paper's table for Criteo.
Expected: a validation log loss of 0.4489 dense (published, mean of 3 runs); configs/tables/criteo.py has the
others. 25,175 steps. It has not been run: the data may not be passed on. Prepare it first (see experiments/prepare_criteo.py).

    python -m experiments.train --config=configs/criteo.py:sequential_attention --workdir=runs/criteo

What the paper leaves open and is chosen here: weights are not decayed (Adam's decay pulls the rows of rare
categories to 0 between their visits), attention logits by 1e-4; which of the plans below is run. The attention
is clipped to [density, 1/density]: the range that the paper prints (appendix C.1) fits no normalisation of it.
`--config.data.stream=True` keeps the rows on the host, for devices without 8 GB to spare for them.

The plan of SequentialAttention++ is 20% dense, 9 cycles of 6% (sparsify, sparse, dense in thirds), 6%
sparsify, 20% sparse. With `plan=phases` it is the one without ramps: AC/DC's phases, under attention.
AC/DC keeps dead weights here (it masks), as the paper says.
"""

from ml_collections import ConfigDict

from configs.base import base
from sparsity.data.criteo.sets import SPLIT

BATCH, EPOCHS = 32_768, 25
EPOCH = SPLIT[0] // BATCH  # steps
RAMPLESS = (
    {"kind": "dense", "length": "20%"},
    *10
    * (
        {"kind": "sparse", "length": "3%", "reset": "restarted"},
        {"kind": "dense", "length": "3%", "reset": "restarted"},
    ),
    {"kind": "finetune", "length": "20%", "reset": "restarted"},
)
PLANS = {
    "one_shot": {"train": "80%", "finetune": "20%"},
    "acdc": {
        "warmup": "20%",
        "cycles": 10,
        "sparse": "3%",
        "dense": "3%",
        "last_dense": "3%",
        "finetune": "20%",
        "dead": "kept",
    },
    "sequential_attention": {
        "warmup": "20%",
        "cycles": 9,
        "sparsify": "2%",
        "sparse": "2%",
        "dense": "2%",
        "last_sparsify": "6%",
        "finetune": "20%",
    },
    "phases": {"phases": RAMPLESS},
}


def get_config(argument: str = "") -> ConfigDict:
    """The config; `argument` names the method and plan."""
    config = base(argument, model="clicks", optimiser="adam")
    config.data.name = "criteo"
    config.data.validation = 0.18  # the set's own 8,250,124 rows, which the paper reports on
    config.batch = BATCH
    config.steps = EPOCHS * EPOCH
    config.blocks.block = (10, 10)
    config.blocks.rules = ({"pattern": "params/dense[2-9]/kernel"},)  # these stay dense
    if config.plan.name in PLANS:
        config.plan.update(PLANS[config.plan.name])
    if config.method.name == "sequential_attention":
        config.method.clip = True
    config.optimizer.learning_rate = 2e-2
    config.optimizer.schedule = "exponential"
    config.optimizer.final = 3e-4
    config.optimizer.weight_decay = 0.0
    config.optimizer.gates_weight_decay = 1e-4
    config.log_every = EPOCH
    config.evaluate_every = EPOCH
    config.save_every = EPOCH
    return config
