"""What the tests of a TPU's kernels rely on: a TPU that is interpreted."""

import pytest
from jax.experimental.pallas import tpu as pltpu


@pytest.fixture
def interpreted():
    """Kernels run on the CPU as a TPU would: memory starts as NaN, races are looked for."""
    params = pltpu.InterpretParams(detect_races=True, uninitialized_memory="nan")
    pltpu.reset_tpu_interpret_mode_state()
    with pltpu.force_tpu_interpret_mode(params):
        yield
