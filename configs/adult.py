"""Adult (32,561 people, earning above 50K or not) through the network of the click-log experiments.

Reproduces nothing published: it is a real set of numbers and categories at a size that two cores carry. 14
fields of width 10, three dense layers of 400, of which the first (140 x 400) is pruned. Expected: about
84% and a log loss of 0.33 dense. The file goes under $SPARSITY_DATA; a run without it says where.

    python -m experiments.train --config=configs/adult.py:sequential_attention --workdir=runs/adult
"""

from ml_collections import ConfigDict

from configs import criteo

EPOCH = 23_445 // 256  # steps


def get_config(argument: str = "") -> ConfigDict:
    """The config; `argument` names the method and plan."""
    config = criteo.get_config(argument)
    config.data.name = "adult"
    config.data.validation = 0.0
    config.batch = 256
    config.steps = 4 * EPOCH
    config.optimizer.learning_rate = 2e-3
    config.optimizer.final = 1e-4
    config.log_every = EPOCH
    config.evaluate_every = EPOCH
    config.save_every = 0
    return config
