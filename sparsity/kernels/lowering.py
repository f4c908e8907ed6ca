"""The primitive that a product is traced to: a backend is chosen, and traced, where a platform is lowered.

So a program holds one operation per product whatever number of backends there are, and what is exported for
another platform gets that platform's kernel. vmap wraps maps around the backend's function, which is itself
traced without them. There is no derivative here: `product` gives it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from sparsity.kernels import backends, choice
from sparsity.kernels.calls import Call, result
from sparsity.kernels.layout import ARRAYS, Layout
from sparsity.kernels.manual import varying

CONVOLUTIONS = {"forward": "convolve", "dx": "convolve_dx", "dw": "convolve_dw"}
PATHS = ("auto", "sparse", "dense")


class Map(NamedTuple):
    """One vmap around the product: its size, and each operand's mapped axis or None."""

    size: int
    axes: tuple[int | None, ...]


blocks_p = Primitive("block_sparse")


def call_of(verb: str, x: jax.Array, layout: Layout, **more: Any) -> Call:
    """The facts of a product whose first operand is x."""
    static = layout.shape, layout.block, layout.capacity
    return Call(verb, x.shape[0], *static, x.dtype.name, **more)


def bind(call: Call, layout: Layout, *operands: jax.Array) -> jax.Array:
    """The product of operands (x, packed[, bias]), (dy, packed) or (x, dy)."""
    return blocks_p.bind(*jax.tree.leaves(layout), *operands, call=call, maps=())


def on_module(module: Any, call: Call) -> Callable[..., jax.Array]:
    """The backend's function of the primitive's operands, without maps."""

    def run(*arrays: jax.Array) -> jax.Array:
        layout = Layout(call.shape, call.block, call.capacity, *arrays[:ARRAYS])
        first, second, *bias = arrays[ARRAYS:]
        static = () if call.geometry is None else (call.geometry,)
        name = call.verb if call.geometry is None else CONVOLUTIONS[call.verb]
        if call.verb == "dw":
            return getattr(module, name)(first, second, layout, *static)
        if call.verb == "forward":
            static = (bias[0] if bias else None, call.activation, *static)
        return getattr(module, name)(first, second, layout, *static)

    return run


def _lowered(platform: str, *arrays: Any, call: Call, maps: tuple[Map, ...]) -> Any:
    run = on_module(choice.module_of(platform, call), call)
    for each in maps:
        run = jax.vmap(run, each.axes, axis_size=each.size)
    return run(*arrays)


def _abstract(*avals: Any, call: Call, maps: tuple[Map, ...]) -> Any:
    shape = (*(each.size for each in reversed(maps)), *result(call))
    if not varying(avals[ARRAYS]):
        return jax.core.ShapedArray(shape, avals[ARRAYS].dtype)
    # Inside shard_map the result varies as the operands do, which `product` has made alike.
    sharding = NamedSharding(avals[ARRAYS].sharding.mesh, P(*(None,) * len(shape)))
    manual = {"manual_axis_type": avals[ARRAYS].manual_axis_type}
    return jax.core.ShapedArray(shape, avals[ARRAYS].dtype, sharding=sharding, **manual)


def _mapped(arrays: Any, dims: Any, *, call: Call, maps: tuple[Map, ...]) -> tuple[jax.Array, int]:
    size = next(a.shape[axis] for a, axis in zip(arrays, dims, strict=True) if axis is not None)
    return blocks_p.bind(*arrays, call=call, maps=(*maps, Map(size, tuple(dims)))), 0


@functools.partial(jax.jit, static_argnames=("call", "maps"))
def _at_once(*arrays: jax.Array, call: Call, maps: tuple[Map, ...]) -> jax.Array:
    return blocks_p.bind(*arrays, call=call, maps=maps)


blocks_p.def_impl(_at_once)
blocks_p.def_abstract_eval(_abstract)
batching.primitive_batchers[blocks_p] = _mapped
for _name in backends.BACKENDS:
    _rule = functools.partial(_lowered, _name)
    mlir.register_lowering(blocks_p, mlir.lower_fun(_rule, multiple_results=False), _name)
mlir.register_lowering(
    blocks_p, mlir.lower_fun(functools.partial(_lowered, ""), multiple_results=False)
)
