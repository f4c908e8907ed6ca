"""Every method on Fashion-MNIST with an MLP of 784-256-256-10: blocks 8 and 16, sparsities 90, 95 and 98%.

Reproduces nothing published: the paper's claims are tried at a size that two cores run in an hour or two.

    python -m experiments.tables --config=configs/tables/fashion_mnist.py
"""

from ml_collections import ConfigDict

DECAYS = [1e-4, 5e-4]
SHARES = {
    "a": {"plan.train": "85%", "plan.finetune": "15%"},
    "b": {"plan.train": "70%", "plan.finetune": "30%"},
}
RAMPS = {
    "a": {"plan.train": "20%", "plan.sparsify": "50%", "plan.finetune": "30%"},
    "b": {"plan.train": "5%", "plan.sparsify": "75%", "plan.finetune": "20%"},
}
RATES = {"a": {"optimizer.learning_rate": 0.05}, "b": {"optimizer.learning_rate": 0.1}}
BURIALS = {"a": {"plan.dead": "zeroed"}, "b": {"plan.dead": "kept"}}
RISES = {"a": {"plan.c": 4.0}, "b": {"plan.c": 8.0}}
SAME = "SequentialAttention++"
CUBIC = "PowerPropagation, cubic"
BEST = "Hoff product, Frobenius norms rank, cubic"


def _arm(name: str, argument: str, knob: dict, **own) -> dict:
    trials = {"product": {"optimizer.weight_decay": DECAYS}, "named": knob}
    return {"name": name, "argument": argument, "trials": trials, **own}


def get_config() -> ConfigDict:
    """The table's config."""
    config = ConfigDict(convert_dict=False)  # its mappings name fields of another config
    config.title = "Fashion-MNIST, MLP 784-256-256-10, 8 epochs of batch 128"
    config.base = "configs/fashion_mnist.py"
    config.set = {"save_every": 0, "evaluate_every": 0, "log_every": 468}
    config.cells = {"blocks.block": [[8, 8], [16, 16]], "density": ["0.1", "0.05", "0.02"]}
    config.seeds = [20, 21, 22]
    config.tuning = {
        "at": {"blocks.block": [16, 16], "density": "0.05"},
        "seeds": [0, 1, 2],
        "validation": 0.1,
    }
    config.arms = [
        _arm("dense", "dense", RATES),
        _arm("random, from the start", "random,plan=static", RATES),
        _arm("magnitude, one-shot", "magnitude,plan=one_shot", SHARES),
        _arm("magnitude, gradual (cubic)", "magnitude,plan=gradual", RAMPS),
        _arm("PowerPropagation, one-shot", "powerprop,plan=one_shot", SHARES),
        _arm(CUBIC, "powerprop,plan=gradual", RAMPS),
        _arm("AC/DC", "magnitude,plan=acdc", BURIALS),
        _arm(SAME, "sequential_attention", RISES),
        _arm("attention's score, cubic", "sequential_attention,plan=gradual", RAMPS),
        # The best of configs/sweeps/combinations.py.
        _arm(BEST, "grid,plan=gradual", RAMPS, set={"method.mask": "hoff", "method.score": "l2"}),
        # These differ from SequentialAttention++ in what ranks the blocks, and in nothing else.
        {
            "name": "its plan and A, Frobenius norms rank",
            "argument": "grid,plan=sequential_attention",
            "set": {"method.mask": "softmax", "method.score": "l2"},
            "like": SAME,
        },
        {
            "name": "its plan without A, Frobenius norms rank",
            "argument": "grid,plan=sequential_attention",
            "set": {"method.mask": "none", "method.score": "l2"},
            "like": SAME,
        },
    ]
    config.figure = "softmax scores beat Frobenius scores, A kept"
    config.claims = [
        {
            "claim": "SequentialAttention++ beats one-shot magnitude",
            "better": SAME,
            "worse": "magnitude, one-shot",
        },
        {
            "claim": "SequentialAttention++ beats PowerPropagation",
            "better": SAME,
            "worse": "PowerPropagation, one-shot",
        },
        {"claim": "SequentialAttention++ beats AC/DC", "better": SAME, "worse": "AC/DC"},
        {
            "claim": "softmax scores beat Frobenius scores, A kept",
            "better": SAME,
            "worse": "its plan and A, Frobenius norms rank",
        },
        {
            "claim": "softmax scores beat Frobenius scores, without A",
            "better": SAME,
            "worse": "its plan without A, Frobenius norms rank",
        },
        {
            "claim": "(not the paper's) SequentialAttention++ beats gradual magnitude",
            "better": SAME,
            "worse": "magnitude, gradual (cubic)",
        },
        {
            "claim": "(not the paper's) PowerPropagation under the cubic plan beats gradual magnitude",
            "better": CUBIC,
            "worse": "magnitude, gradual (cubic)",
        },
        {
            "claim": "(not the paper's) the Hoff product beats gradual magnitude",
            "better": BEST,
            "worse": "magnitude, gradual (cubic)",
        },
        {
            "claim": "(not the paper's) the Hoff product beats PowerPropagation, both cubic",
            "better": BEST,
            "worse": CUBIC,
        },
        {
            "claim": "(not the paper's) the Hoff product beats SequentialAttention++",
            "better": BEST,
            "worse": SAME,
        },
    ]
    return config
