"""A run of small batches whose gradients are accumulated is the run of the batches that they make up."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from experiments.running.launch import launch
from experiments.running.session import Session

quiet = Session(say=lambda text: None)
CLIPPED = {"optimizer__clip": 0.5, "log_every": 0}


@pytest.mark.slow  # its quick sibling is of the optimiser alone, in tests/train/test_accumulation.py
def test_a_run_of_accumulated_batches_is_the_one_of_the_batches_they_make_up(config_of, tmp_path):
    # An epoch of digits is 11 batches of 128 or 44 of 32: the same examples, and the tick falls between two updates.
    runs = {"large": (128, 12, 1), "small": (32, 48, 4)}
    for name, (batch, steps, accumulate) in runs.items():
        sizes = {"batch": batch, "steps": steps, "optimizer__accumulate": accumulate}
        config = config_of("magnitude,plan=one_shot", **CLIPPED, **sizes)
        launch(config, tmp_path / name, quiet)
    large, small = (load_file(tmp_path / name / "model.safetensors") for name in runs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), large, small)
    ends = [json.loads((tmp_path / name / "summary.json").read_text()) for name in runs]
    assert ends[0]["accuracy"] == ends[1]["accuracy"]
    assert ends[0]["achieved_sparsity"] == ends[1]["achieved_sparsity"] > 0.8
