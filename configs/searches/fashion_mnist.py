"""What SequentialAttention++ leaves open, searched together: Fashion-MNIST, MLP 784-256-256-10, 95% of 16x16.

Its knobs are those of configs/sweeps/attention.py, which turns one at a time. 40 trials, one seed each.

    python -m experiments.search --config=configs/searches/fashion_mnist.py
"""

from ml_collections import ConfigDict

from configs.fashion_mnist import EPOCH


def get_config() -> ConfigDict:
    """The search's config."""
    config = ConfigDict(convert_dict=False)  # its mappings name fields of another config
    config.title = "The knobs of SequentialAttention++, searched on Fashion-MNIST"
    config.base = "configs/fashion_mnist.py"
    config.set = {
        "argument": "sequential_attention",
        "density": "0.05",
        "data.validation": 0.1,
        "save_every": 0,
        "evaluate_every": EPOCH,
    }
    config.search = {
        "trials": 40,
        "sampler": "tpe",
        # Masks come and go with the plan's cycles, so that an early accuracy says little: halving its
        # field by the middle of the field so far is milder than by Hyperband's brackets.
        "pruner": "median",
        "space": {
            "optimizer.learning_rate": {"log_uniform": [0.02, 0.3]},
            "optimizer.weight_decay": {"log_uniform": [1e-5, 1e-3]},
            "optimizer.gates_learning_rate": {"log_uniform": [0.1, 10.0]},
            "plan.c": {"uniform": [1.0, 12.0]},
            "plan.every": {"choice": ["1/9%", "1/3%", "1%"]},
            "method.clip": {"choice": [False, True]},
        },
    }
    return config
