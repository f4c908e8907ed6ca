"""What SequentialAttention++ leaves open, one knob at a time: Fashion-MNIST, MLP 784-256-256-10, 95% of 16x16.

Its knobs are c, the logits' learning rate and decay, the update interval, the clip, regrowth, and the plan's
shape; the last points take away one ingredient at a time on the way to gradual magnitude pruning.

    python -m experiments.sweep --config=configs/sweeps/attention.py
"""

from ml_collections import ConfigDict

from configs.sweeps.base import named

ARGUMENT = "sequential_attention"
CUBIC = {"argument": "sequential_attention,plan=gradual"}
# The plan's last ramp alone, after as long a dense phase as the cycles took.
NO_CYCLES = {"plan.cycles": 0, "plan.warmup": "70%"}
FROBENIUS = {"argument": "grid,plan=sequential_attention", "method.score": "l2"}
POINTS = {
    "as it is": {},
    "c 2": {"plan.c": 2.0},
    "c 8": {"plan.c": 8.0},
    "logits' rate x 0": {"optimizer.gates_learning_rate": 0.0},
    "logits' rate x 0.1": {"optimizer.gates_learning_rate": 0.1},
    "logits' rate x 3": {"optimizer.gates_learning_rate": 3.0},
    "logits' rate x 10": {"optimizer.gates_learning_rate": 10.0},
    "logits' decay 0": {"optimizer.gates_weight_decay": 0.0},
    "logits' decay x 10": {"optimizer.gates_weight_decay": 1e-3},
    "logits' decay x 100": {"optimizer.gates_weight_decay": 1e-2},
    "updates three times as often": {"plan.every": "1/9%"},
    "updates a third as often": {"plan.every": "1%"},
    "clip": {"method.clip": True},
    "no regrowth within a ramp": {"plan.regrow": False},
    "three cycles": {
        "plan.cycles": 3,
        "plan.sparsify": "20/3%",
        "plan.sparse": "20/3%",
        "plan.dense": "20/3%",
    },
    "no cycles": NO_CYCLES,
    "no cycles, a longer ramp and fine-tuning": {
        "plan.cycles": 0,
        "plan.warmup": "20%",
        "plan.last_sparsify": "50%",
        "plan.finetune": "30%",
    },
    "the cubic plan": CUBIC,
    "Frobenius norms rank": {**FROBENIUS, "method.mask": "softmax"},
    "Frobenius norms rank, no attention": {**FROBENIUS, "method.mask": "none"},
    "the cubic plan, Frobenius norms rank": {
        "argument": "grid,plan=gradual",
        "method.score": "l2",
        "method.mask": "softmax",
    },
    "the cubic plan, Frobenius norms rank, no attention": {
        "argument": "grid,plan=gradual",
        "method.score": "l2",
        "method.mask": "none",
    },
}


def get_config() -> ConfigDict:
    """The sweep's config."""
    points = {name: {"argument": ARGUMENT, **fields} for name, fields in POINTS.items()}
    return named("What SequentialAttention++ leaves open, on Fashion-MNIST", points)
