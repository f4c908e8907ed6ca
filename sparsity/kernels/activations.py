"""The activations that a product may end with, by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# "gelu" is the tanh form, jax.nn.gelu's default.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "none": lambda z: z,
    "relu": lambda z: jnp.maximum(z, 0),
    "gelu": jax.nn.gelu,
}


def check_activation(name: str | None) -> str:
    """The name, "none" for None. Raises ValueError for one that does not exist."""
    name = "none" if name is None else name
    if name not in ACTIVATIONS:
        raise ValueError(f"no activation is called {name!r}; there are: {', '.join(ACTIVATIONS)}")
    return name
