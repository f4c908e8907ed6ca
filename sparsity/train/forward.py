"""A model as two functions, and the only place where Linen is run: hooks are applied by one interceptor."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from sparsity.contract import NOTHING, Hook


class Model(NamedTuple):
    """What the train step needs of a network, whatever library made it.

    init:  (key, inputs) -> (trained tree, mutable tree): {"params": ...} and, say, {"batch_stats": ...}.
    apply: (trained, mutable, inputs, train, hooks, key) -> (outputs, mutable).
    """

    init: Callable[[jax.Array, Any], tuple[Any, Any]]
    apply: Callable[..., tuple[jax.Array, Any]]


def linen(module: nn.Module) -> Model:
    """A Linen module that is called with (inputs, train=...)."""

    # It runs once, and optimising its random draws takes XLA longer than anything else in a small run.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def init(key: jax.Array, inputs: Any) -> tuple[Any, Any]:
        variables = dict(module.init(key, inputs, train=False))
        return {"params": variables.pop("params")}, variables

    def apply(
        trained: Any,
        mutable: Any,
        inputs: Any,
        train: bool = False,
        hooks: Mapping[str, Hook] = NOTHING,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        rngs = {} if key is None else {"dropout": key}
        variables = {**trained, **mutable}
        with nn.intercept_methods(_interceptor(hooks)):
            if not train or not mutable:
                outputs: Any = module.apply(variables, inputs, train=train, rngs=rngs)
                return outputs, mutable
            outputs, changed = module.apply(
                variables, inputs, train=True, rngs=rngs, mutable=list(mutable)
            )
            return outputs, {**mutable, **changed}

    return Model(init, apply)


def _interceptor(hooks: Mapping[str, Hook]) -> Callable[..., Any]:
    def intercept(next_call, args, kwargs, context):
        hook = hooks.get("/".join(context.module.path))
        if hook is None or context.method_name != "__call__":
            return next_call(*args, **kwargs)
        own = context.module.variables.get("params", {})
        return hook(lambda *inputs: next_call(*inputs, **kwargs), own, *args)

    return intercept
