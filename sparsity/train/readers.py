"""How often a traced function reads each of its parameters."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from sparsity.units.partition import leaves


def readers(apply: Callable[..., Any], params: Any, *inputs: Any) -> Counter[str]:
    """Path of each leaf of `params` -> in how many operations of `apply(params, *inputs)` it stands.

    Within a call, a loop or a checkpoint it counts what stands inside; being returned counts too. Nothing is
    computed: shapes will do.
    """
    traced = jax.make_jaxpr(apply)(params, *inputs)
    paths = list(leaves(jax.eval_shape(lambda tree: tree, params)))
    found = zip(paths, traced.jaxpr.invars, strict=False)
    return Counter({path: _reads(traced.jaxpr, variable) for path, variable in found})


def _reads(jaxpr: Any, variable: Any) -> int:
    returned = sum(out is variable for out in jaxpr.outvars)
    return returned + sum(_reads_of(eqn, variable) for eqn in jaxpr.eqns)


def _reads_of(eqn: Any, variable: Any) -> int:
    places = [i for i, operand in enumerate(eqn.invars) if operand is variable]
    inner = [found for value in eqn.params.values() if (found := _jaxpr(value)) is not None]
    if len(inner) != 1 or len(inner[0].invars) != len(eqn.invars):
        return len(places)
    return sum(_reads(inner[0], inner[0].invars[i]) for i in places)


def _jaxpr(value: Any) -> Any:
    if isinstance(value, core.ClosedJaxpr):
        return value.jaxpr
    return value if isinstance(value, core.Jaxpr) else None
