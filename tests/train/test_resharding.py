"""A checkpoint that was written on one mesh restores onto another: the same bits, where they are to lie there."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from configs import digits
from experiments.assembly.assemble import assemble, begun
from sparsity.train.checkpoint import restore, save
from sparsity.train.sharding import AXES, layout, shardings

# Sizes of data, fsdp and model.
MESHES = {"1": (1, 1, 1), "8": (1, 8, 1), "4x2": (1, 4, 2), "2x4": (1, 2, 4), "2x2x2": (2, 2, 2)}


@pytest.fixture(scope="module")
def alone():
    """An experiment, and its first state as numpy's arrays, no two of whose numbers are alike by chance."""
    experiment = assemble({**digits.get_config("sequential_attention,optimizer=adamw").to_dict()})
    draw = np.random.default_rng(0)
    fill = lambda x: draw.integers(0, 2**31, x.shape, np.int64).astype(x.dtype)
    return experiment, jax.tree.map(fill, jax.device_get(begun(experiment)))


def there(experiment, state, name):
    """The state on a mesh."""
    mesh = jax.make_mesh(MESHES[name], AXES, (AxisType.Auto,) * 3)
    lies = layout(mesh, experiment.shared.partition, experiment.shared.shapes)
    return jax.device_put(state, shardings(lies, state))


@pytest.mark.parametrize(
    ("first", "second"), [("1", "8"), ("4x2", "2x4"), ("8", "1"), ("2x2x2", "8"), ("8", "4x2")]
)
def test_a_checkpoint_of_one_mesh_restores_onto_another(alone, first, second, tmp_path):
    experiment, state = alone
    save(tmp_path, 3, there(experiment, state, first), {})
    like = there(experiment, jax.tree.map(np.zeros_like, state), second)
    found = restore(tmp_path, like)[0]
    for one, other, as_asked in zip(*map(jax.tree.leaves, (state, found, like)), strict=True):
        assert np.asarray(other).tobytes() == one.tobytes()
        assert other.sharding == as_asked.sharding
