"""Every method on Adult (32,561 real rows) through the click logs' network: blocks of 10, 90, 95 and 98%.

Reproduces nothing published: it is the paper's grid on a small real set of numbers and categories, 66 runs of
4 epochs of batch 256, sized so that two cores carry it in minutes.

    python -m experiments.tables --config=configs/tables/adult_small.py
"""

from ml_collections import ConfigDict

from configs.adult import EPOCH
from configs.tables import criteo, criteo_generated


def get_config() -> ConfigDict:
    """The table's config."""
    config = criteo_generated.get_config()
    config.title = "Adult, 14 embeddings of width 10, layers of 400, 64, 64, 4 epochs"
    config.note = (
        "At a reduced size, on another set than the paper's: its figures are not of this set."
    )
    config.base = "configs/adult.py"
    config.set = {
        "model.widths": [400, 64, 64],  # the layer that is pruned is as wide as the paper's
        "log_every": EPOCH,
        "evaluate_every": 0,
        "save_every": 0,
    }
    config.cells = {"blocks.block": [[10, 10]], "density": ["0.1", "0.05", "0.02"]}
    config.figure, config.gain = f"{criteo.ATTENTION} beats AC/DC", ""
    return config
