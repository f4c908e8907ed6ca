"""Every network obeys the same contract: shapes, types, statistics, seeds."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sparsity.models import build
from sparsity.models.cnn import halved

# One block a stage: it is the contract that is tested.
SMALL = {
    "mlp": {"widths": (24, 16)},
    "cnn": {"widths": (8, 12), "hidden": (16,)},
    "resnet20": {"stream": (4, 6, 8), "inner": (((4,),), ((5,),), ((6,),))},
    "resnet50": {"stem": 4, "stream": (4, 6, 8, 8), "inner": (((4, 3),),) * 4},
    "vit": {"width": 16, "heads": (2, 3), "head_width": 4, "mlp": (12, 20)},
}
# Compiling takes the time, most of it the random numbers of `init`; unoptimised it takes a tenth.
compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
IMAGES = np.random.default_rng(1).random((3, 16, 16, 3), np.float32)


@cache
def network(name, **kwargs):
    module = build(name, classes=5, **(SMALL[name] | kwargs))
    return module, compiled(partial(module.init, train=False))


@cache
def initialised(name, seed=0, **kwargs):
    module, init = network(name, **kwargs)
    return module, init(jax.random.key(seed), IMAGES)


@cache
def logits(name, train=False, dtype="float32"):
    """With the parameters of seed 0; the moved statistics beside them."""
    module, variables = network(name, dtype=dtype)[0], initialised(name)[1]
    run = compiled(partial(module.apply, train=train, mutable=["batch_stats"]))
    return run(variables, IMAGES)


def kernels(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    return [leaf for path, leaf in leaves if path[-1].key == "kernel"]


@pytest.mark.parametrize("name", SMALL)
def test_logits_are_float32_of_batch_by_classes(name):
    out, _ = logits(name)
    assert out.shape == (3, 5) and out.dtype == jnp.float32


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_computes_float32_logits_from_float32_parameters(name):
    half, exact = logits(name, dtype="bfloat16")[0], logits(name)[0]
    assert half.dtype == jnp.float32
    assert 0 < float(jnp.abs(half - exact).max()) < 0.1 * float(jnp.abs(exact).max()) + 0.05
    _, init = network(name, dtype="bfloat16")
    shapes = jax.eval_shape(init, jax.random.key(0), IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", SMALL)
def test_parameters_are_a_function_of_the_seed(name):
    _, init = network(name)
    first, again, other = (init(jax.random.key(seed), IMAGES) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    pairs = zip(kernels(first), kernels(other), strict=True)
    assert all((a != b).mean() > 0.99 for a, b in pairs)


@pytest.mark.parametrize("name", ["cnn", "resnet20", "resnet50"])
def test_statistics_move_in_training_and_rest_in_evaluation(name):
    before = initialised(name)[1]["batch_stats"]
    moved, rested = (logits(name, train=train)[1]["batch_stats"] for train in (True, False))
    jax.tree.map(np.testing.assert_array_equal, rested, before)
    distance = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), moved, before)
    assert all(d > 0 for d in jax.tree.leaves(distance)), distance


@pytest.mark.parametrize("name", ["mlp", "vit"])
def test_networks_without_statistics_do_not_tell_training_from_evaluation(name):
    assert set(initialised(name)[1]) == {"params"}
    np.testing.assert_array_equal(logits(name, train=True)[0], logits(name)[0])


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name):
    module, variables = initialised(name)
    rest = {k: v for k, v in variables.items() if k != "params"}
    # a scale of zero hides its branch, so everything is moved off zero
    params = jax.tree.map(lambda p: p + 0.1, variables["params"])

    @compiled
    @jax.grad
    def gradient(params):
        kept = {"params": params, **rest}
        out, _ = module.apply(kept, IMAGES, train=True, mutable=["batch_stats"])
        return jax.nn.log_softmax(out)[:, 0].sum()

    for path, g in jax.tree_util.tree_leaves_with_path(gradient(params)):
        keys = [p.key for p in path]
        assert np.isfinite(g).all()
        # a key's bias adds the same to all scores of a query, which the softmax ignores
        assert keys[-2:] == ["key", "bias"] or float(jnp.abs(g).max()) > 0, keys


def test_classifier_is_called_head_and_fc_on_imagenet():
    ends = {name: {"head", "fc"} & set(initialised(name)[1]["params"]) for name in SMALL}
    assert ends.pop("resnet50") == {"fc"}
    assert all(end == {"head"} for end in ends.values())


def test_scanned_transformer_equals_unrolled_one_with_the_same_weights():
    kwargs = {"heads": (2, 2, 2), "mlp": (12, 12, 12)}
    unrolled, variables = initialised("vit", **kwargs)
    scanned, other = initialised("vit", scan_layers=True, **kwargs)
    params = dict(variables["params"])
    layers = [params.pop(f"layer{i}") for i in (1, 2, 3)]
    stacked = params | {"layers": jax.tree.map(lambda *x: jnp.stack(x), *layers)}
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, dict(other["params"]))
    a = compiled(unrolled.apply)(variables, IMAGES)
    b = compiled(scanned.apply)({"params": stacked}, IMAGES)
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_stacked_layers_start_from_different_weights():
    _, variables = initialised("vit", scan_layers=True, heads=(2, 2, 2), mlp=(12, 12, 12))
    first, second, _ = variables["params"]["layers"]["query"]["kernel"]
    assert (first != second).mean() > 0.99


def test_attention_kernels_keep_their_heads():
    params = initialised("vit")[1]["params"]["layer2"]
    assert params["query"]["kernel"].shape == (16, 3, 4)
    assert params["out"]["kernel"].shape == (3, 4, 16)


@pytest.mark.parametrize("side", [6, 7])
def test_halving_an_image_is_max_pooling_in_value_and_gradient(side):
    images = jax.random.normal(jax.random.key(0), (2, side, side, 3))  # no two entries are equal
    pooled = lambda x: nn.max_pool(x, (2, 2), (2, 2))
    weight = jax.random.normal(jax.random.key(1), pooled(images).shape)
    np.testing.assert_array_equal(halved(images), pooled(images))
    ours, theirs = (
        jax.grad(lambda x, f=f: jnp.sum(weight * f(x)))(images) for f in (halved, pooled)
    )
    np.testing.assert_array_equal(ours, theirs)
