"""What crosses between devices in a training step on weights that lie in parts, read off the compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from configs import digits
from experiments.assembly.assemble import assemble, begun, feed
from experiments.running.launch import run_of
from sparsity.train import agenda
from sparsity.train.gathering import gathered
from sparsity.train.sharding import AXES, Layout
from tests.units.test_sharding import moved

# No activation of so many rows has as many entries as a weight.
BATCH = 56


def step(argument, **changes):
    """The compiled training step of digits under a mesh, as text."""
    config = digits.get_config(argument).to_dict()
    mesh = {"fsdp": 1, "model": 1, "rules": (), **changes.pop("mesh")}
    config |= {"batch": BATCH, "steps": 40, "devices": mesh["fsdp"] * mesh["model"], "mesh": mesh}
    config["model"] |= changes
    experiment = assemble(config)
    now = agenda.entered(run_of(experiment), 0)
    train, source = experiment.shared.programs.train, feed(experiment)(0)
    lowered = train.lower(begun(experiment), source, now.context, now.span, frozen=(), dead="kept")
    return lowered.compile().as_text()


def test_fsdp_gathers_every_weight_and_sends_no_rows_of_a_batch():
    # Each of 8 devices has 7 rows: to send those would be less.
    crossed = moved(step("magnitude,plan=gradual", mesh={"fsdp": 8}))
    kernels, vectors = [64 * 256, 256 * 256, 256 * 10], {256, 10, 1}
    assert sorted(n for how, n in crossed if how == "all-gather" and n not in vectors) == sorted(
        kernels
    )
    assert {n for _, n in crossed} <= {*kernels, *vectors}


@pytest.mark.slow  # its quick sibling is of the layout alone, in test_sharding.py
def test_a_layer_cut_by_model_is_summed_twice_on_the_way_there_and_back():
    one = {"heads": (4,), "mlp": (128,)}
    crossed = moved(step("magnitude,plan=gradual,model=vit", mesh={"model": 4}, **one))
    tokens = BATCH * 4 * 64
    # Behind the heads and the perceptron; on the way back those of query, key and value go together.
    assert [how for how, n in crossed if n == tokens] == ["all-reduce"] * 6
    assert all(n <= 128 for _, n in crossed if n != tokens)


@pytest.mark.parametrize("model", [1, 2])
def test_a_gathered_weight_is_whole_along_fsdp_and_its_gradient_is_in_parts(model):
    mesh = jax.make_mesh((1, 4, model), AXES, (AxisType.Auto,) * 3)
    parts = NamedSharding(mesh, P("fsdp", "model"))
    lies = Layout(mesh, {}, {"w": parts, "b": NamedSharding(mesh, P())})
    w = jax.device_put(np.arange(64, dtype=np.float32).reshape(8, 8), parts)
    tree = {"w": w, "b": jnp.ones(8)}
    whole = jax.jit(lambda tree: gathered(lies, tree))(tree)
    np.testing.assert_array_equal(whole["w"], w)
    assert whole["w"].addressable_shards[0].data.shape == (8, 8 // model)
    gradient = jax.jit(jax.grad(lambda tree: jnp.sum(gathered(lies, tree)["w"] ** 2)))(tree)
    np.testing.assert_array_equal(gradient["w"], 2 * np.asarray(w))
    assert gradient["w"].sharding.is_equivalent_to(parts, 2)
