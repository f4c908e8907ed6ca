"""The programs of a served model for one platform: on live blocks, and dense."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.tree_util import PyTreeDef

from sparsity.kernels.cpu import native
from sparsity.kernels.packed import PackedMatrix
from sparsity.kernels.served import BOTH, DENSE, KINDS, PACKED, arguments_of, exporting
from sparsity.surgery.forms import forms_of, refusal
from sparsity.surgery.substitution import Uses, substituted
from sparsity.units.partition import Tree, leaves

# Kernels that a program may call by name. jax does not promise to keep those of the CPU, which the loader
# registers, and those of a GPU.
CALLS = (*native.TARGETS, "mosaic_gpu", "mosaic_gpu_v2")
NAMED = (*CALLS, "tpu_custom_call")

Program = Callable[..., Any]


class Programs(NamedTuple):
    """Both programs of `jax.export`, by kind; how the sparse one uses each packed weight, and takes it."""

    kinds: dict[str, Any]
    uses: Uses
    forms: dict[str, str]

    @property
    def named(self) -> list[str]:
        """The kernels that the sparse program calls by name."""
        module = self.kinds["sparse"].mlir_module()
        return [name for name in NAMED if f"@{name}(" in module]


def exported(
    apply: Callable[[Tree, jax.Array], jax.Array],
    params: Tree,
    weights: Mapping[str, Any],
    example: jax.ShapeDtypeStruct,
    platform: str,
    path: str,
) -> Programs:
    """The programs, of (arguments as `served.arguments_of` gives them, inputs).

    weights: path -> array or PackedMatrix. Raises ValueError without flatbuffers.
    """
    run = substituted(apply, params, path, functools.partial(refusal, platform))
    uses = _uses(run, weights, example)
    forms = forms_of(uses)
    whole = dict.fromkeys(weights, DENSE)
    sparse = _exported(
        _sparse(run, weights, forms), arguments_of(weights, forms), example, platform
    )
    dense = _exported(_dense(apply, params), arguments_of(weights, whole), example, platform)
    return Programs(dict(zip(KINDS, (sparse, dense), strict=True)), uses, forms)


def _uses(run: Program, weights: Mapping[str, Any], example: jax.ShapeDtypeStruct) -> Uses:
    """How each packed weight is used, without anything being computed."""
    found: Uses = {}

    def traced(weights: Mapping[str, Any], inputs: jax.Array) -> Any:
        outputs, uses = run(weights, inputs)
        found.update(uses)
        return outputs

    jax.eval_shape(traced, weights, example)
    return found


def _sparse(run: Program, weights: Mapping[str, Any], forms: Mapping[str, str]) -> Program:
    kinds = {path: jax.tree.structure(weight) for path, weight in weights.items()}

    def sparse(arguments: Mapping[str, Any], inputs: jax.Array) -> Any:
        given = {
            path: _given(arrays, kinds[path], forms.get(path, PACKED))
            for path, arrays in arguments.items()
        }
        return run(given, inputs)[0]

    return sparse


def _given(arrays: list[Any], kind: PyTreeDef, form: str) -> Any:
    """A weight out of the arrays that it is taken as."""
    if form == DENSE:
        return arrays[0]
    packed: PackedMatrix = jax.tree.unflatten(kind, arrays[: kind.num_leaves])
    return (packed, arrays[-1]) if form == BOTH else packed


def _dense(apply: Program, params: Tree) -> Program:
    tree, paths = jax.tree.structure(params), list(leaves(params))

    def dense(arguments: Mapping[str, Any], inputs: jax.Array) -> Any:
        return apply(jax.tree.unflatten(tree, [arguments[path][0] for path in paths]), inputs)

    return dense


def _exported(run: Program, arguments: Any, example: jax.ShapeDtypeStruct, platform: str) -> Any:
    export = exporting()
    allowed = [export.DisabledSafetyCheck.custom_call(name) for name in CALLS]
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
    made = export.export(jax.jit(run), platforms=(platform,), disabled_checks=allowed)
    return made(shapes, example)
