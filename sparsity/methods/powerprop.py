"""PowerPropagation (Schwarz et al. 2021, arXiv 2110.00296) and its block form (arXiv 2402.17902).

The weights are phi |phi|^(alpha - 1), entry by entry, or ||V_b||^(alpha - 1) V_b, block by block: large
weights learn faster, small ones wither. Plain L2 decay of phi becomes a sparsifying penalty of w.
"""

import jax
import jax.numpy as jnp

from sparsity.contract import Method, chain
from sparsity.families import reparametrised
from sparsity.methods.magnitude import magnitude
from sparsity.units.partition import Partition, Tree, leaves, replaced, scale
from sparsity.units.scores import norms


def powerprop(
    partition: Partition,
    *,
    alpha: float = 2.0,
    form: str = "block",
    score: str = "l2",
    select: str = "per_group",
    floor: int = 1,
) -> Method:
    """Trains phi, prunes by the score of the effective weight.

    alpha: exponent, at least 1 (1 is the plain network). form: "block" or "weight".

    Unlike the paper, the reparametrisation acts on the partitioned weights only.
    """
    return chain(
        reparametrisation(partition, alpha, form),
        magnitude(partition, score=score, select=select, floor=floor),
    )


def reparametrisation(partition: Partition, alpha: float, form: str) -> Method:
    """w = phi |phi|^(alpha - 1), started at phi = sign(w) |w|^(1/alpha).

    A weight that was set to 0 has no gradient for alpha > 1, so plans that zero dead weights and revive
    them are refused.
    """
    forms = {"block": _by_block, "weight": _by_weight}
    if form not in forms or not alpha >= 1:
        raise ValueError(
            f"powerprop: alpha >= 1 and form in {list(forms)}, not {alpha!r}, {form!r}"
        )
    if alpha == 1:
        return Method()
    power = forms[form]
    return reparametrised(
        lambda w: power(partition, w, 1 / alpha), lambda phi: power(partition, phi, alpha), False
    )


def _by_weight(partition: Partition, tree: Tree, exponent: float) -> Tree:
    found = leaves(tree)
    paths = [view.path for group in partition.values() for view in group.gated]
    return replaced(tree, {path: _signed_power(found[path], exponent) for path in paths})


def _by_block(partition: Partition, tree: Tree, exponent: float) -> Tree:
    factors = {name: _power(size, exponent - 1) for name, size in norms(partition, tree).items()}
    return scale(partition, factors, tree)


def _signed_power(w: jax.Array, exponent: float) -> jax.Array:
    return w * _power(jnp.abs(w), exponent - 1)


def _power(size: jax.Array, exponent: float) -> jax.Array:
    """size ** exponent for size >= 0, with 0 and gradient 0 at 0 whatever the exponent."""
    positive = size > 0
    return jnp.where(positive, jnp.where(positive, size, 1.0) ** exponent, 0.0)
