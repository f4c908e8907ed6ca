"""A norm in parts is the usual norm of each part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.models import build
from sparsity.models.norms import batch_norm

IMAGES = np.random.default_rng(0).normal(2.0, 3.0, (6, 4, 4, 5)).astype(np.float32)


def trained(groups, images, dtype=jnp.float32):
    """What the norm makes of a training batch, and the statistics it leaves."""
    module = batch_norm(groups, train=True, dtype=dtype)(name=None)
    variables = module.init(jax.random.key(0), images)
    out, moved = module.apply(variables, images, mutable=["batch_stats"])
    return np.asarray(out), moved["batch_stats"]


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_each_part_is_normalised_as_if_it_were_the_batch(groups):
    out, stats = trained(groups, IMAGES)
    parts = [trained(1, part) for part in np.split(IMAGES, groups)]
    expected = np.concatenate([part for part, _ in parts])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    for name in ("mean", "var"):
        mean = np.mean([moved[name] for _, moved in parts], axis=0)
        np.testing.assert_allclose(stats[name], mean, rtol=1e-5, atol=1e-6)
    assert np.abs(out - trained(1, IMAGES)[0]).max() > 0.01


def test_parameters_and_statistics_are_named_and_evaluated_as_in_the_usual_norm():
    images = IMAGES.astype(jnp.bfloat16)
    outs = []
    for groups in (1, 2):
        variables = batch_norm(groups, train=True, dtype=jnp.bfloat16)().init(
            jax.random.key(0), images
        )
        assert jax.tree.map(jnp.shape, variables) == {
            "params": {"scale": (5,), "bias": (5,)},
            "batch_stats": {"mean": (5,), "var": (5,)},
        }
        moved = jax.tree.map(lambda leaf: leaf + 0.5, variables)
        outs.append(batch_norm(groups, train=False, dtype=jnp.bfloat16)().apply(moved, images))
    assert outs[0].dtype == outs[1].dtype == jnp.bfloat16
    np.testing.assert_array_equal(*(np.asarray(out, np.float32) for out in outs))


def test_groups_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match="a batch of 6 cannot be normalised in 4 equal groups"):
        trained(4, IMAGES)


def test_a_network_takes_its_groups_from_the_config():
    small = {"stem": 4, "stream": (4, 6, 8, 8), "inner": (((4, 3),),) * 4}
    images = np.random.default_rng(1).random((4, 16, 16, 3), np.float32)
    modules = [build("resnet50", classes=5, norm_groups=groups, **small) for groups in (1, 2)]
    shapes = jax.eval_shape(modules[0].init, jax.random.key(0), images)
    rng = np.random.default_rng(2)
    variables = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), shapes)
    outs = []
    for module in modules:
        run = jax.jit(lambda v, m=module: m.apply(v, images, train=True, mutable=["batch_stats"]))
        outs.append(run(variables)[0])
    assert np.abs(outs[0] - outs[1]).max() > 1e-4
