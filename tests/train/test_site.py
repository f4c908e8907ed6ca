"""Where modules multiply, and products of live blocks in their place: the same values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sparsity.contract import Hook
from sparsity.kernels.blocks import pack, unpack
from sparsity.kernels.layout import from_mask
from sparsity.models import build
from sparsity.train.forward import linen
from sparsity.train.site import hook
from sparsity.units.partition import leaves, replaced

IMAGES = jax.random.normal(jax.random.key(0), (2, 8, 8, 8))


class Convolutions(nn.Module):
    """Every window that a block-sparse convolution may meet, and modules that it cannot follow."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(16, (3, 3), (2, 2), ((1, 1), (1, 1)), name="padded")(x)
        x = nn.Conv(16, (3, 3), name="same")(x)
        x = nn.Conv(24, (1, 1), 2, use_bias=False, name="single")(x)
        x = nn.Conv(24, (3, 3), feature_group_count=2, name="grouped")(x)
        x = nn.Conv(24, (3, 3), padding="CIRCULAR", name="circular")(x)
        x = nn.Dense(16, precision="highest", name="precise")(x)
        return nn.Embed(4, 8, name="table").attend(x[..., :8])


NETS = {
    "convolutions": Convolutions(),
    "attention": build("vit", classes=4, width=32, heads=(2,), head_width=16, mlp=(64,)),
    "bfloat16": build("mlp", classes=4, widths=(64, 64), dtype="bfloat16"),
}


@functools.cache
def begun(name):
    """(model, trained, mutable, its sites)."""
    model = linen(NETS[name])
    trained, mutable = model.init(jax.random.key(1), IMAGES)
    return model, trained, mutable, model.sites(trained, mutable, IMAGES[:1])


def layout_of(site):
    """A third of the blocks of 8 x 8, at random."""
    rows, cols = -(-site.matrix[0] // 8), -(-site.matrix[1] // 8)
    mask = np.random.default_rng(0).random((rows, cols)) < 1 / 3
    mask[0, 0] = True
    return from_mask(mask, site.matrix, (8, 8))


def dense_of(kernel, site, layout):
    return unpack(pack(kernel.reshape(site.matrix), layout), layout).reshape(site.shape)


@pytest.mark.parametrize(
    ("name", "packed"), [("convolutions", True), ("attention", True), ("bfloat16", False)]
)
def test_a_product_of_live_blocks_stands_for_the_module(name, packed):
    model, trained, mutable, sites = begun(name)
    able = {path: site for path, site in sites.items() if not site.refusal}
    layouts = {path: layout_of(site) for path, site in able.items()}
    hooks: dict[str, Hook] = {s.module: hook(s, layouts[p], None, None) for p, s in able.items()}
    found = leaves(trained)
    cut = {p: dense_of(found[p], s, layouts[p]) for p, s in able.items()}
    given = {p: pack(found[p].reshape(s.matrix), layouts[p]) for p, s in able.items()}

    def loss(tree, hooks):
        out, _ = model.apply(tree, mutable, IMAGES, False, hooks)
        return jnp.sum(jnp.sin(out)), out

    run = lambda tree, hooks: jax.jit(jax.value_and_grad(lambda t: loss(t, hooks), has_aux=True))(
        tree
    )
    (_, dense), expected = run(replaced(trained, cut), {})
    (_, sparse), gradient = run(replaced(trained, given) if packed else trained, hooks)
    rough = {"rtol": 0.05, "atol": 0.05} if name == "bfloat16" else {"rtol": 2e-4, "atol": 2e-5}
    np.testing.assert_allclose(dense, sparse, **rough)
    mine, theirs = leaves(gradient), leaves(expected)
    for path, site in able.items():
        live = pack(theirs[path].reshape(site.matrix), layouts[path])
        got = mine[path] if packed else pack(mine[path].reshape(site.matrix), layouts[path])
        np.testing.assert_allclose(got, live, err_msg=path, **rough)


def test_sites_are_what_multiplies_and_say_what_cannot_be_followed():
    _, _, _, sites = begun("convolutions")
    said = {path.split("/")[1]: site.refusal for path, site in sites.items() if site.refusal}
    assert said == {
        "grouped": "its convolution is dilated, grouped, masked or not of images",
        "circular": "its padding is CIRCULAR",
        "precise": "it asks for precision of its own",
    }
    assert sites["params/padded/kernel"].geometry.padding == ((1, 1), (1, 1))
    assert sites["params/padded/kernel"].rows == 16 and sites["params/single/kernel"].rows == 4


def test_projections_of_several_heads_are_matrices():
    _, _, _, sites = begun("attention")
    assert sites["params/layer1/query/kernel"].matrix == (32, 32)
    assert sites["params/layer1/out/kernel"].contracted == 2
    assert sites["params/layer1/mlp_in/kernel"].rows == 4  # patches of 4 x 4 of 8 x 8


class Mine(nn.Module):
    """A module of somebody's own, with a kernel and without a dtype."""

    @nn.compact
    def __call__(self):
        return self.param("kernel", nn.initializers.ones, (8, 8))


class Kernel(nn.Module):
    """A module with a part that is called as a weight is."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(8, name="named")(inputs=x)
        return nn.Dense(8, name="kernel")(x) @ Mine(name="mine")()


def test_modules_that_look_alike_are_told_apart():
    model = linen(Kernel())
    trained, mutable = model.init(jax.random.key(0), IMAGES)
    said = {path: s.refusal for path, s in model.sites(trained, mutable, IMAGES).items()}
    assert said == {
        "params/named/kernel": "its inputs are given by name",
        "params/kernel/kernel": "",
        "params/mine/kernel": "Mine is no Dense, DenseGeneral or Conv",
    }


def test_a_module_that_is_called_in_two_ways_is_refused():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            layer = nn.Dense(8, name="shared")
            return layer(x).sum() + layer(x[:, 0]).sum()

    model = linen(Twice())
    trained, mutable = model.init(jax.random.key(0), IMAGES)
    site = model.sites(trained, mutable, IMAGES)["params/shared/kernel"]
    assert site.refusal == "it is called in more ways than one"


class Tied(nn.Module):
    """A kernel that multiplies in its module, and once more in another product."""

    @nn.compact
    def __call__(self, x, train=False):
        layer = nn.Dense(16, use_bias=False, name="layer")
        y = nn.relu(layer(x))
        back = layer.variables["params"]["kernel"]
        return nn.Dense(16, name="free")(y @ back.T)


def test_a_kernel_that_is_read_elsewhere_too_is_refused():
    model = linen(Tied())
    x = jnp.ones((2, 8))
    sites = model.sites(*model.init(jax.random.key(0), x), x)
    assert sites["params/layer/kernel"].refusal == "it is read elsewhere too"
    assert not sites["params/free/kernel"].refusal
