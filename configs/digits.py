"""Scikit-learn's bundled digits (1,797 scans of 8x8, no download) and an MLP of 64-256-256-10.

Reproduces nothing published: it is the smallest real experiment, and what `make demo` trains.
Expected: about 98% dense in 800 steps.

    python -m experiments.train --config=configs/digits.py:magnitude --workdir=runs/digits
"""

from ml_collections import ConfigDict

from configs.base import base


def get_config(argument: str = "") -> ConfigDict:
    """The config; `argument` names the method, plan and model."""
    config = base(argument)
    config.steps = 800
    return config
