"""The grid of the Criteo table on generated click logs: 400,000 rows, blocks 10 and 20, 90, 95 and 98%.

Reproduces nothing published: the rows are generated (sparsity/data/criteo/planted.py), so that a click depends
on 5 of 13 numbers and 8 of 26 categories and on nothing else. Sized for two cores: the layers behind the
first have 64 outputs, and a run is 3 epochs of batch 1024. The set has to be made first:

    python -m experiments.generate_criteo --out=$SPARSITY_DATA/criteo_generated/train.txt --rows=400000
    python -m experiments.prepare_criteo --source=$SPARSITY_DATA/criteo_generated/train.txt \
        --out=$SPARSITY_DATA/criteo_generated
    python -m experiments.tables --config=configs/tables/criteo_generated.py
"""

from ml_collections import ConfigDict

from configs.tables import criteo

EPOCH = 288_000 // 1024  # steps
RANDOM = "random, from the start"


def get_config() -> ConfigDict:
    """The table's config."""
    config = criteo.get_config()
    config.title = (
        "Generated click logs, 39 embeddings of width 10, layers of 400, 64, 64, 3 epochs"
    )
    config.note = (
        "At a reduced size, on generated rows with a planted structure: no figure of it is to be set beside "
        "the paper's."
    )
    config.set = {
        "data.name": "criteo_generated",
        "data.validation": 0.0,
        "model.widths": [400, 64, 64],
        "batch": 1024,
        "steps": 3 * EPOCH,
        "log_every": EPOCH,
        "evaluate_every": 0,
        "save_every": 0,
    }
    config.cells = {"blocks.block": [[10, 10], [20, 20]], "density": ["0.1", "0.05", "0.02"]}
    config.seeds = [20, 21, 22]
    config.arms = [*criteo.arms(), {"name": RANDOM, "argument": "random,plan=static"}]
    config.claims = [
        *criteo.claims(),
        {
            "claim": f"(not the paper's) {criteo.ATTENTION} beats random blocks",
            "worse": RANDOM,
            "better": criteo.ATTENTION,
        },
    ]
    config.metrics = criteo.metrics("test")
    config.published = {}
    return config
