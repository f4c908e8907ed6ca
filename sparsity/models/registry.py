"""Networks by name."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from sparsity.models import resnet
from sparsity.models.clicks import Clicks
from sparsity.models.cnn import CNN
from sparsity.models.mlp import MLP
from sparsity.models.vit import ViT
from sparsity.named import choose, unknown

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    **{f"resnet{depth}": partial(resnet.cifar, depth) for depth in resnet.CIFAR_BLOCKS},
    **{f"resnet{depth}": partial(resnet.imagenet, depth) for depth in resnet.IMAGENET_BLOCKS},
    "vit": ViT,
    "clicks": Clicks,
}
# What a network takes from the data that it is to read.
FACTS = ("classes", "numbers", "entries")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def build(
    name: str, *, classes: int = 0, facts: Mapping[str, int] | None = None, **kwargs: Any
) -> nn.Module:
    """The network called `name`, for data of these facts.

    The keywords are those of the network (`options(name)` lists them): widths, which may be lists,
    and `dtype`, "float32" or "bfloat16". What is given is checked here, not at the first call.

    facts: what the network must know of its data: `classes` of images, `numbers` and `entries` of
    tables. `classes` alone stands for the facts of images.

    Raises:
      ValueError: for an unknown name or keyword, with what exists and what is nearest; for widths
        that are not positive whole numbers and for another dtype; for data that it cannot read.
    """
    make, known = choose("model", name, MODELS), options(name)
    facts = {"classes": classes} if facts is None else facts
    if facts.keys() != (needed := _facts(name)):
        raise ValueError(
            f"the model {name!r} reads data with {' and '.join(sorted(needed))}, and these have "
            f"{' and '.join(sorted(facts))}: images go with {', '.join(_readers({'classes'}))}; "
            f"tables with {', '.join(_readers({'numbers', 'entries'}))}"
        )
    for key, value in kwargs.items():
        if key not in known:
            raise unknown(f"keyword of the model {name!r}", key, known)
        kwargs[key] = _checked(f"{key} of the model {name!r}", value, known[key])
    return make(**{key: _width(key, value) for key, value in facts.items()}, **kwargs)


def options(name: str) -> dict[str, Any]:
    """The keywords of a network, beside the facts of its data, with their defaults.

    Raises:
      ValueError: for an unknown name.
    """
    hidden = (*FACTS, "parent", "name")
    parameters = inspect.signature(choose("model", name, MODELS)).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in hidden}


def _facts(name: str) -> set[str]:
    return set(FACTS) & set(inspect.signature(MODELS[name]).parameters)


def _readers(facts: set[str]) -> list[str]:
    return [name for name in MODELS if _facts(name) == facts]


def _checked(what: str, value: Any, default: Any) -> Any:
    """The value of a keyword as the kind of thing its default is."""
    if isinstance(default, bool | str):
        if type(value) is not type(default):
            raise ValueError(f"{what}: expected a {type(default).__name__}, not {value!r}")
        return value
    if isinstance(default, type):
        return _dtype(what, value)
    if isinstance(default, int):
        return _width(what, value)
    if default is None:
        return None if value is None else _widths(what, value, True)
    return _widths(what, value, False)


def _width(what: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{what}: expected a positive whole number, not {value!r}")
    return value


def _widths(what: str, value: Any, nested: bool) -> tuple:
    """A tuple of widths, or of such tuples where they may be nested."""
    if type(value) not in (list, tuple):
        raise ValueError(f"{what}: expected a tuple of positive whole numbers, not {value!r}")
    return tuple(
        _widths(what, v, True) if nested and isinstance(v, list | tuple) else _width(what, v)
        for v in value
    )


def _dtype(what: str, value: Any) -> Any:
    """One object per type: equal types of another class would hash apart and compile again."""
    try:
        found = jnp.dtype(value).name
    except TypeError:
        found = value
    return choose(f"type for {what}", found, DTYPES)
