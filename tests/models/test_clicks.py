"""The network for click logs: its sizes, its treatment of numbers, and that dead blocks can be cut away."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsity.models import build
from sparsity.models.clicks import BUCKETS, MISSING, bucket
from sparsity.train.forward import linen
from sparsity.units import costs
from sparsity.units.blocks import Rule, blocks, partition_of
from sparsity.units.costs import multiplies
from sparsity.units.partition import scale

CRITEO = {"numbers": 13, "entries": 1000}
ROWS = (
    jnp.concatenate(
        [
            jax.random.randint(jax.random.key(0), (8, 13), -3, 5000),
            jax.random.randint(jax.random.key(1), (8, 26), 0, 1000),
        ],
        1,
    )
    .at[0, 0]
    .set(MISSING)
)


def made(**kwargs):
    model = linen(build("clicks", facts=CRITEO, **kwargs))
    params, mutable = model.init(jax.random.key(0), ROWS)
    return lambda p, rows=ROWS: model.apply(p, mutable, rows)[0], params


def test_it_has_the_papers_sizes():
    apply, params = made()
    shapes = jax.tree.map(jnp.shape, params["params"])
    assert shapes["dense1"]["kernel"] == (390, 400) and shapes["dense3"]["kernel"] == (400, 400)
    assert shapes["embedding"] == (1000, 10) and shapes["number_embedding"] == (13, 10)
    assert apply(params).shape == (8,)
    uses = multiplies(apply, params, ROWS[:1])
    assert costs.macs(uses) == 390 * 400 + 2 * 400 * 400 + 400


@pytest.mark.parametrize(("block", "units"), [(5, 6240), (10, 1560), (20, 400), (1, 156_000)])
def test_the_first_layer_has_the_papers_blocks(block, units):
    _, params = made()
    rules = [Rule("params/dense[2-9]/kernel"), Rule("*", (block, block))]
    (group,) = partition_of(blocks(params, rules, density="0.1")).values()
    assert group.size == units


def test_a_number_is_its_logarithm_times_a_vector():
    apply, params = made(widths=(10,))
    p = jax.tree.map(jnp.zeros_like, params)["params"]
    p["number_embedding"] = p["number_embedding"].at[0, 0].set(1.0)
    p["dense1"]["kernel"] = p["dense1"]["kernel"].at[0, 0].set(1.0)
    p["head"]["kernel"] = p["head"]["kernel"].at[0, 0].set(1.0)
    rows = jnp.stack([ROWS[1].at[0].set(x) for x in (0, 1, 1000, MISSING, -3)])
    expected = [0, np.log(2), np.log(1001), 0, 0]  # below 0 the ReLU cuts
    np.testing.assert_allclose(apply({"params": p}, rows), expected, rtol=1e-6)
    raw = build("clicks", facts=CRITEO, widths=(10,), values="raw")
    np.testing.assert_allclose(raw.apply({"params": p}, rows), [0, 1, 1000, 0, 0])


def test_buckets_are_floors_of_logarithms():
    numbers = jnp.array([MISSING, -7, 0, 1, 2, 3, 4, 1023, 1024, 2**31 - 1])
    assert bucket(numbers).tolist() == [0, 1, 2, 3, 4, 4, 5, 12, 13, 31]
    apply, params = made(values="buckets")
    assert params["params"]["number_embedding"].shape == (13 * BUCKETS, 10)
    assert jnp.isfinite(apply(params)).all()


def test_another_kind_of_values_is_refused():
    with pytest.raises(ValueError, match="values is one of log, raw, buckets, not 'square'"):
        made(values="square")


def test_networks_and_data_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="'clicks' reads data with entries and numbers"):
        build("clicks", facts={"classes": 10})
    with pytest.raises(ValueError, match="'mlp' reads data with classes, .* tables with clicks"):
        build("mlp", facts=CRITEO)


@pytest.mark.parametrize("block", [5, 10])
def test_masked_is_cut(block):
    """Fields of the first layer whose blocks are all dead, and outputs that read none, can go."""
    apply, params = made(widths=(40, 20))
    rules = [Rule("params/dense2/kernel"), Rule("*", (block, block))]
    partition = partition_of(blocks(params, rules, density="0.1", at_least=1))
    ((path, group),) = partition.items()
    rng = np.random.default_rng(0)
    fields, outputs = rng.random(group.grid[0]) < 0.3, rng.random(group.grid[1]) < 0.5
    mask = jnp.asarray(np.outer(fields, outputs), jnp.float32)
    masked = apply(scale(partition, {path: mask}, params))
    live = np.repeat(fields, block), np.repeat(outputs, block)
    np.testing.assert_allclose(masked, cut(params["params"], *live), rtol=1e-5, atol=1e-6)


def cut(p, inputs, outputs):
    """The network with the live inputs and outputs of its first layer alone; the dead outputs are constants."""
    numbers, categories = ROWS[:, :13], ROWS[:, 13:]
    values = jnp.where(numbers == MISSING, 0, numbers)
    values = jnp.sign(values) * jnp.log1p(jnp.abs(values))
    x = jnp.concatenate(
        [values[..., None] * p["number_embedding"], p["embedding"][categories]], 1
    ).reshape(8, -1)
    kernel, bias = p["dense1"]["kernel"][inputs][:, outputs], p["dense1"]["bias"]
    small = jax.nn.relu(x[:, inputs] @ kernel + bias[outputs])
    constant = jax.nn.relu(bias[~outputs]) @ p["dense2"]["kernel"][~outputs]
    x = jax.nn.relu(small @ p["dense2"]["kernel"][outputs] + constant + p["dense2"]["bias"])
    return (x @ p["head"]["kernel"] + p["head"]["bias"])[:, 0]
