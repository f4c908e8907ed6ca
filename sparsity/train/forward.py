"""A model as functions, and the only place where Linen is run: hooks are applied by one interceptor."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import linen as nn

from sparsity.contract import NOTHING, Hook
from sparsity.train.linen import site_of
from sparsity.train.readers import readers
from sparsity.train.site import Site


class Model(NamedTuple):
    """What the train step needs of a network, whatever library made it.

    init:  (key, inputs) -> (trained tree, mutable tree): {"params": ...} and, say, {"batch_stats": ...}.
    apply: (trained, mutable, inputs, train, hooks, key) -> (outputs, mutable).
    sites: (trained, mutable, inputs) -> where each kernel multiplies, by the kernel's path; shapes will do.
    """

    init: Callable[[jax.Array, Any], tuple[Any, Any]]
    apply: Callable[..., tuple[jax.Array, Any]]
    sites: Callable[..., dict[str, Site]] = lambda trained, mutable, inputs: {}


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

    def sites(trained: Any, mutable: Any, inputs: Any) -> dict[str, Site]:
        found: dict[str, Site] = {}
        calls: Counter[str] = Counter()

        def forward(trained, mutable, inputs):
            with nn.intercept_methods(_recorder(found, calls)):
                return module.apply({**trained, **mutable}, inputs, train=False)

        reads = readers(forward, trained, mutable, inputs)
        # A hook replaces the module's own product and nothing else.
        elsewhere = {path for path in found if reads[path] > calls[path]}
        tied = {
            path: found[path]._replace(refusal="it is read elsewhere too") for path in elsewhere
        }
        return {**found, **tied}

    return Model(init, apply, sites)


def _interceptor(hooks: Mapping[str, Hook]) -> Callable[..., Any]:
    def intercept(next_call, args, kwargs, context):
        hook = hooks.get("/".join(context.module.path))
        if hook is None or context.method_name != "__call__":
            return next_call(*args, **kwargs)
        own = context.module.variables.get("params", {})
        return hook(lambda *inputs: next_call(*inputs, **kwargs), own, *args)

    return intercept


def _recorder(found: dict[str, Site], calls: Counter[str]) -> Callable[..., Any]:
    """Notes each module that has a kernel where it is called, and how often."""

    def intercept(next_call, args, kwargs, context):
        kernel = context.module.variables.get("params", {}).get("kernel")
        # A part of a module may be called "kernel" too.
        if isinstance(kernel, jax.Array) and context.method_name == "__call__":
            key = f"params/{'/'.join(context.module.path)}/kernel"
            site = site_of(context.module, kernel, next(iter((*args, *kwargs.values())), None))
            if kwargs and not site.refusal:  # a hook takes them by place
                site = site._replace(refusal="its inputs are given by name")
            again = site._replace(refusal="it is called in more ways than one")
            found[key] = site if found.get(key, site) == site else again
            calls[key] += 1
        return next_call(*args, **kwargs)

    return intercept
