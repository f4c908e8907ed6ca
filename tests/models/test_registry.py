"""Names, keywords and widths that do not exist are refused in words."""

import jax
import jax.numpy as jnp
import pytest

from sparsity.models import build, options

NAMES = ["mlp", "cnn", "resnet20", "resnet32", "resnet56", "resnet110", "resnet18", "resnet34"]
NAMES += ["resnet50", "vit"]

BAD = [
    ("resnet21", {}, "no model is called 'resnet21'; did you mean 'resnet.*mlp, cnn, .*vit"),
    ("zzz", {}, "There are: mlp, cnn"),
    ("mlp", {"width": (4,)}, "keyword of the model 'mlp' is called 'width'; did you mean 'widths'"),
    ("cnn", {"parent": None}, "is called 'parent'"),
    ("mlp", {"widths": 8}, "tuple of positive whole numbers, not 8"),
    ("mlp", {"widths": (8, 0)}, "positive whole number, not 0"),
    ("mlp", {"widths": (8.0,)}, "not 8.0"),
    ("mlp", {"widths": ((8,),)}, "not \\(8,\\)"),
    ("mlp", {"classes": True}, "classes: .* not True"),
    ("mlp", {"dtype": "float16"}, "called 'float16'; did you mean 'bfloat16'"),
    ("mlp", {"dtype": "floaty"}, "called 'floaty'.*float32, bfloat16"),
    ("vit", {"patch": "4"}, "not '4'"),
    ("vit", {"scan_layers": 1}, "expected a bool, not 1"),
    ("resnet20", {"shortcut": 2}, "expected a str, not 2"),
    ("resnet20", {"inner": (((4,), ("5",)),)}, "not '5'"),
]


@pytest.mark.parametrize(("name", "kwargs", "words"), BAD)
def test_bad_requests_are_refused(name, kwargs, words):
    with pytest.raises(ValueError, match=words):
        build(name, **({"classes": 10} | kwargs))


SHAPES = [
    ("cnn", {"widths": (4, 4, 4, 4)}, "8x8 cannot be halved 4 times: give at most 3"),
    ("vit", {"patch": 3}, "3x3 do not tile images of 8x8"),
    ("vit", {"heads": (2,)}, "1 heads and 4 mlp"),
    ("vit", {"heads": (2, 1), "mlp": (8, 8), "scan_layers": True}, "must be equal"),
]


@pytest.mark.parametrize(("name", "kwargs", "words"), SHAPES)
def test_networks_that_do_not_fit_the_image_are_refused(name, kwargs, words):
    module = build(name, classes=10, **kwargs)
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1))))


def test_options_of_an_unknown_model_are_refused():
    with pytest.raises(ValueError, match="no model is called 'vot'; did you mean 'vit'"):
        options("vot")


@pytest.mark.parametrize("name", NAMES)
def test_every_name_takes_its_own_options(name):
    module = build(name, classes=3, **options(name))
    assert module == build(name, classes=3)
    assert hash(module) == hash(build(name, classes=3))


def test_lists_of_widths_are_tuples():
    assert build("mlp", classes=3, widths=[8, 4]) == build("mlp", classes=3, widths=(8, 4))
