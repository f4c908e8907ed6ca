"""The paper's table for Criteo: blocks 5, 10, 20 (and 1), sparsities 90 to 99%, three seeds, validation log loss.

Reproduces arXiv 2402.17902, its table of Criteo and Figure 5; the published figures stand in it as data. It
takes 363 runs of 25,175 steps and the data, which has to be fetched and prepared by whoever runs it:

    python -m experiments.tables --config=configs/tables/criteo.py
"""

from ml_collections import ConfigDict

SOURCE = "arXiv 2402.17902v1, table of Criteo validation losses"
BLOCKS, DENSITIES = (5, 10, 20), ("0.1", "0.05", "0.03", "0.02", "0.01")
SPARSITIES = ("90%", "95%", "97%", "98%", "99%")
MAGNITUDE, POWERPROP = "magnitude, one-shot", "PowerPropagation, one-shot"
ACDC, ATTENTION = "AC/DC", "SequentialAttention++"
RAMPLESS, GRADUAL = "SequentialAttention++ without ramps", "magnitude, gradual (cubic)"
# Per method and sparsity, the losses at blocks 5, 10, 20.
LOSSES = {
    MAGNITUDE: (
        *((0.4523, 0.4693, 0.4923), (0.4586, 0.4892, 0.4998), (0.4656, 0.5004, 0.5079)),
        *((0.4717, 0.5145, 0.5447), (0.4881, 0.5376, 0.5482)),
    ),
    POWERPROP: (
        *((0.4521, 0.4572, 0.4920), (0.4547, 0.4768, 0.4946), (0.4587, 0.5061, 0.5093)),
        *((0.4622, 0.5158, 0.5379), (0.5017, 0.5295, 0.5425)),
    ),
    ACDC: (
        *((0.4517, 0.4580, 0.4829), (0.4547, 0.4754, 0.4961), (0.4606, 0.4936, 0.5056)),
        *((0.4692, 0.4929, 0.5184), (0.5050, 0.5153, 0.5427)),
    ),
    ATTENTION: (
        *((0.4515, 0.4535, 0.4596), (0.4540, 0.4595, 0.4715), (0.4570, 0.4708, 0.4865)),
        *((0.4601, 0.4904, 0.5162), (0.4803, 0.5068, 0.5253)),
    ),
}
DENSE = 0.4489


def metrics(part: str = "validation") -> list[dict]:
    """Log loss, which judges, and AUC, on a part of the set."""
    loss = {"field": "loss", "name": f"{part} log loss", "better": "lower", "unit": "nats"}
    auc = {"field": "auc", "name": f"{part} AUC", "better": "higher", "unit": "of AUC"}
    return [{**metric, "scale": 1, "digits": 4} for metric in (loss, auc)]


def arms() -> list[dict]:
    """The paper's four methods and what it leaves out."""
    named = {
        "dense": "dense",
        MAGNITUDE: "magnitude,plan=one_shot",
        POWERPROP: "powerprop,plan=one_shot",
        ACDC: "magnitude,plan=acdc",
        ATTENTION: "sequential_attention",
        RAMPLESS: "sequential_attention,plan=phases",
        GRADUAL: "magnitude,plan=gradual",
    }
    return [{"name": name, "argument": argument} for name, argument in named.items()]


def claims() -> list[dict]:
    """Those of the paper that its table bears on."""
    better = {"better": ATTENTION}
    return [
        {"claim": f"{ATTENTION} beats one-shot magnitude", "worse": MAGNITUDE, **better},
        {"claim": f"{ATTENTION} beats PowerPropagation", "worse": POWERPROP, **better},
        {"claim": f"{ATTENTION} beats AC/DC", "worse": ACDC, **better},
        {"claim": "the ramps help", "worse": RAMPLESS, **better},
        {
            "claim": f"(not the paper's) {ATTENTION} beats gradual magnitude",
            "worse": GRADUAL,
            **better,
        },
    ]


def published() -> dict[str, dict[str, dict]]:
    """The paper's figures by arm and cell; PowerPropagation diverged at blocks of one entry."""
    found: dict[str, dict[str, dict]] = {
        arm: {
            f"{b}x{b}, {sparsity}": {"value": loss, "source": SOURCE}
            for sparsity, row in zip(SPARSITIES, rows, strict=True)
            for b, loss in zip(BLOCKS, row, strict=True)
        }
        for arm, rows in LOSSES.items()
    }
    diverged = {"value": None, "said": "diverged", "source": "arXiv 2402.17902v1, Figure 5"}
    found[POWERPROP] |= {f"1x1, {sparsity}": diverged for sparsity in SPARSITIES}
    return found | {"dense": {"": {"value": DENSE, "source": SOURCE}}}


def get_config() -> ConfigDict:
    """The table's config."""
    config = ConfigDict(convert_dict=False)  # its mappings name fields of another config
    config.title = "Criteo, 39 embeddings of width 10, three layers of 400, 25 epochs"
    config.base = "configs/criteo.py"
    config.set = {"log_every": 1007, "evaluate_every": 0, "save_every": 1007}
    config.cells = {
        "blocks.block": [[b, b] for b in (1, *BLOCKS)],
        "density": list(DENSITIES),
    }
    config.seeds = [0, 1, 2]
    config.arms = arms()
    config.metrics = metrics()
    config.published = published()
    config.figure = config.gain = f"{ATTENTION} beats AC/DC"
    config.claims = claims()
    return config
