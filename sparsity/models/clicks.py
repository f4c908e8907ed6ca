"""The network of the click-log experiments: embeddings of every field, three dense layers, one logit."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

BUCKETS = 32  # of logarithms, with one for a number that is missing and one for all below 0
MISSING = -(2**31)


class Clicks(nn.Module):
    """Embeddings, then dense layers with ReLU, then one logit from `head`.

    That of SequentialAttention++ on Criteo (arXiv 2402.17902, section 4.2) as its sizes identify it: with
    13 numbers and 26 categories the first dense layer reads 390 inputs. A category's vector is a row of
    `embedding`; a number's is its value times a learned vector, a row of `number_embedding`.

    Unlike the paper, which does not say how it scales numbers, a value x is sign(x) log(1 + |x|) by
    default: bare counts reach millions. A missing number has the value 0.

    Called with rows int32 (N, numbers + categories); returns float32 logits (N,).

    Attributes:
      numbers: how many of the columns are numbers; the data's.
      entries: rows of the embedding table; the data's.
      width: of an embedding.
      widths: outputs of each hidden layer, `dense1`, `dense2`, ...
      values: "log"; "raw", the value itself; or "buckets", a vector for each floor(log2 x) of a number.
      dtype: type of the computation; the parameters are float32.

    Raises:
      ValueError: for another kind of values.
    """

    numbers: int
    entries: int
    width: int = 10
    widths: tuple[int, ...] = (400, 400, 400)
    values: str = "log"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, rows: jax.Array, train: bool = False) -> jax.Array:
        del train  # nothing here differs between training and evaluation
        small = nn.initializers.normal(0.01)
        table = self.param("embedding", small, (self.entries, self.width))
        categories = table[rows[:, self.numbers :]]
        x = jnp.concatenate([self._of_numbers(rows[:, : self.numbers], small), categories], 1)
        x, he = x.reshape(len(x), -1).astype(self.dtype), nn.initializers.he_normal()
        for i, width in enumerate(self.widths, 1):
            x = nn.relu(nn.Dense(width, dtype=self.dtype, kernel_init=he, name=f"dense{i}")(x))
        return nn.Dense(1, dtype=self.dtype, name="head")(x)[:, 0].astype(jnp.float32)

    def _of_numbers(self, numbers: jax.Array, small: Any) -> jax.Array:
        """The vectors (N, numbers, width) of whole numbers (N, numbers)."""
        if self.values == "buckets":
            shape = (self.numbers * BUCKETS, self.width)
            places = bucket(numbers) + BUCKETS * jnp.arange(self.numbers)
            return self.param("number_embedding", small, shape)[places]
        if self.values not in SCALES:
            raise ValueError(f"values is one of {', '.join(SCALES)}, buckets, not {self.values!r}")
        vectors = self.param("number_embedding", small, (self.numbers, self.width))
        there = jnp.where(numbers == MISSING, 0, numbers).astype(jnp.float32)
        return SCALES[self.values](there)[..., None] * vectors


def signed_log(x: jax.Array) -> jax.Array:
    """sign(x) log(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


SCALES = {"log": signed_log, "raw": lambda x: x}


def bucket(numbers: jax.Array) -> jax.Array:
    """The bucket of whole numbers, int32: 0 missing, 1 below 0, 2 for 0, then 3 + floor(log2 x) to 31."""
    bits = 32 - jax.lax.clz(jnp.maximum(numbers, 0))
    found = jnp.where(numbers < 0, 1, jnp.minimum(2 + bits, BUCKETS - 1))
    return jnp.where(numbers == MISSING, 0, found).astype(jnp.int32)
