"""The activations that a product may end with, by name."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# "gelu" is the tanh form, jax.nn.gelu's default.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "none": lambda z: z,
    "relu": lambda z: jnp.maximum(z, 0),
    "gelu": jax.nn.gelu,
}


def before(name: str, found: Any, dy: jax.Array) -> jax.Array:
    """The gradient before the activation from the one behind it.

    found: what the activation gave ("relu"), what it was given ("gelu"), nothing ("none").
    """
    if name == "none":
        return dy
    if name == "relu":
        return jnp.where(found > 0, dy, 0)
    return jax.vjp(ACTIVATIONS[name], found)[1](dy)[0]


def check_activation(name: str | None) -> str:
    """The name, "none" for None. Raises ValueError for one that does not exist."""
    name = "none" if name is None else name
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation is called {name!r}; there are: {', '.join(ACTIVATIONS)}")
    return name
