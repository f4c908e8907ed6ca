"""The optimisers by name: what each does between the gradient and the learning rate.

Each takes the weight decay as a transform and puts it where its paper does, and returns the transforms
in order. Its keywords are the settings that it has a use for, with its own defaults.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import optax

from sparsity.named import choose

Tree = Any
Transform = optax.GradientTransformation
Direction = Callable[[Transform], tuple[Transform, ...]]


def _sgd(decay: Transform, *, momentum=0.0, nesterov=False) -> tuple[Transform, ...]:
    return decay, *_momentum(momentum, nesterov)


def _adam(decay: Transform, *, b1=0.9, b2=0.999, eps=1e-8, nesterov=False):
    return decay, optax.scale_by_adam(b1, b2, eps, nesterov=nesterov)


def _adamw(decay: Transform, *, b1=0.9, b2=0.999, eps=1e-8, nesterov=False):
    return optax.scale_by_adam(b1, b2, eps, nesterov=nesterov), decay


def _rmsprop(decay: Transform, *, b2=0.9, eps=1e-8, momentum=0.0, nesterov=False):
    return decay, optax.scale_by_rms(b2, eps), *_momentum(momentum, nesterov)


def _lion(decay: Transform, *, b1=0.9, b2=0.99):
    return optax.scale_by_lion(b1, b2), decay


def _adafactor(decay: Transform, *, eps=1e-30, momentum=0.0):
    # Unlike optax.adafactor the decay is multiplied by the learning rate, as it is in adamw.
    average = (optax.ema(momentum, debias=False),) if momentum else ()
    norms = optax.scale_by_factored_rms(epsilon=eps), optax.clip_by_block_rms(1.0)
    return *norms, _by_params(optax.scale_by_param_block_rms()), *average, decay


def _lamb(decay: Transform, *, b1=0.9, b2=0.999, eps=1e-6):
    return optax.scale_by_adam(b1, b2, eps), decay, _by_params(optax.scale_by_trust_ratio())


OPTIMIZERS: dict[str, Callable[..., tuple[Transform, ...]]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "lion": _lion,
    "adafactor": _adafactor,
    "lamb": _lamb,
}


def direction(name: str, settings: dict[str, Any]) -> Direction:
    """The named optimiser with those of the settings that were given (None is not).

    Raises ValueError for a name that does not exist or a setting that it has no use for.
    """
    build = choose("optimizer", name, OPTIMIZERS)
    used = tuple(inspect.signature(build).parameters)[1:]
    for key, value in settings.items():
        if key not in used and value:  # None, 0 and False ask for nothing
            raise ValueError(
                f"{key}={value!r}: {name} has no use for it, leave it None; "
                f"it takes {', '.join(used)}"
            )
    given = {key: value for key, value in settings.items() if key in used and value is not None}
    return lambda decay: build(decay, **given)


def _momentum(momentum: float, nesterov: bool) -> tuple[Transform, ...]:
    if nesterov and not momentum:
        raise ValueError("nesterov=True: expected a momentum above 0 with it")
    return (optax.trace(momentum, nesterov),) if momentum else ()


def is_gate(tree: Tree) -> Tree:
    """True on the leaves under "gates"."""
    top = jax.tree_util.DictKey("gates")
    return jax.tree_util.tree_map_with_path(lambda keys, leaf: keys[:1] == (top,), tree)


def _by_params(tx: Transform) -> Transform:
    """`tx` on params only: a gate that starts at 0 (a logit) has no scale to be relative to."""
    return optax.masked(tx, lambda tree: jax.tree.map(lambda gate: not gate, is_gate(tree)))
