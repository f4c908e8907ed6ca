"""The final model as a folder that is served with `sparsity/kernels` alone; see kernels/served.py for what it
holds.

It is written from a run's model.safetensors and model.json whenever somebody wants to serve it, and not by
training: they hold everything that it is made of, most runs are never served, and the platforms and the size
of batch are those of the machine that serves.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

from sparsity import disk
from sparsity.kernels import choice, native, packed_files
from sparsity.kernels.backends import BACKENDS
from sparsity.kernels.calls import Call
from sparsity.kernels.columns import from_array
from sparsity.kernels.packed import PackedMatrix, Reading
from sparsity.kernels.served import FORMAT, TEXT, WEIGHTS, arguments_of, exporting
from sparsity.surgery.description import Masks, refuse_live, whole_masks
from sparsity.surgery.substitution import Uses, substituted
from sparsity.units.partition import Group, Partition, Tree, View, leaves, tiles

# Kernels that a program may call by name. jax does not promise to keep those of the CPU, which the loader
# registers, and those of a GPU.
CALLS = (*native.TARGETS, "mosaic_gpu", "mosaic_gpu_v2")
NAMED = (*CALLS, "tpu_custom_call")


def write(
    folder: Path,
    apply: Callable[[Tree, jax.Array], jax.Array],
    params: Tree,
    example: jax.ShapeDtypeStruct,
    *,
    partition: Partition,
    masks: Mapping[str, Any],
    platforms: Sequence[str] = ("cpu",),
    path: str = "auto",
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the folder's files, each whole or not at all, and returns what stands in serving.json.

    apply:     (params, inputs) -> outputs, of any library; nothing random, nothing trained.
    params:    the folded parameters, dead blocks 0.
    example:   shape and dtype of the inputs, the size of batch first.
    platforms: "cpu", "tpu", "cuda": what programs are made for.
    path:      of the products, as for `ops.block_sparse_matmul`: "sparse" takes the kernels wherever there
               are some, and not only where they are expected to be faster.
    about:     plain JSON data, kept with the weights.

    Raises ValueError where masks and weights disagree, for an unknown platform, for outputs that are not one
    array with a row per example, and without flatbuffers.
    """
    export = exporting()
    _check_platforms(platforms)
    _check_outputs(jax.eval_shape(apply, params, example), example)
    weights, dense = packed_weights(params, partition, masks)
    uses: Uses = {name: [reason] for name, reason in dense.items()}
    forms = _forms(substituted(apply, params, path), apply, params, weights, uses)
    programs = {
        f"{kind}-{platform}.jax": _exported(
            export, run, arguments_of(weights, kind), example, platform
        )
        for platform in platforms
        for kind, run in forms.items()
    }
    files = {name: bytes(made.serialize()) for name, made in programs.items()}
    files[WEIGHTS] = packed_files.encode(weights, about)
    text = {
        "format": FORMAT,
        "jax": jax.__version__,
        "input": [list(example.shape), np.dtype(example.dtype).name],
        "kernels": {name: _named(programs[f"sparse-{name}.jax"]) for name in platforms},
        "uses": {name: _said(found, platforms) for name, found in uses.items()},
        "files": {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items()},
    }
    disk.make(folder)
    files[TEXT] = json.dumps(text, indent=1).encode()
    disk.put({folder / name: raw for name, raw in files.items()})
    return text


def _check_platforms(platforms: Sequence[str]) -> None:
    known = dict.fromkeys(BACKENDS)
    if odd := [name for name in platforms if name not in known]:
        raise ValueError(f"a model is exported for {', '.join(known)}, not {odd[0]!r}")


def _check_outputs(found: Any, example: jax.ShapeDtypeStruct) -> None:
    """`served` pads batches and cuts outputs."""
    if getattr(found, "shape", ())[:1] != example.shape[:1]:
        raise ValueError(f"a served model gives one array, a row per example, not {found}")


def _named(program: Any) -> list[str]:
    """The kernels that a program calls by name."""
    module = program.mlir_module()
    return [name for name in NAMED if f"@{name}(" in module]


def packed_weights(
    params: Tree, partition: Partition, masks: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """(path -> array or PackedMatrix, path -> why a gated weight is not packed).

    Raises ValueError where a dead unit holds a weight that is not 0.
    """
    alive = whole_masks(partition, masks)
    refuse_live(partition, alive, params)
    weights: dict[str, Any] = {
        path: np.asarray(leaf) for path, leaf in leaves(jax.device_get(params)).items()
    }
    dense = {}
    for name, group in partition.items():
        for view in group.gated:
            found = _packed(weights[view.path], view, group, alive, name)
            if isinstance(found, str):
                dense[view.path] = found
            else:
                weights[view.path] = found
    return weights, dense


def _packed(
    weight: np.ndarray, view: View, group: Group, masks: Masks, name: str
) -> PackedMatrix | str:
    """A gated weight packed, or why not."""
    reading = reading_of(view, group.batch)
    if reading is None or view.shape != weight.shape:
        return "its units are not blocks of a matrix"
    start = view.start or (0,) * len(group.grid)
    own = tuple(slice(s, s + n) for s, n in zip(start, tiles(view), strict=True))
    mask = masks[name][own]
    if mask.all():
        return "all its blocks are alive"
    block = view.block[-2], view.block[-1]
    return from_array(weight, block, mask.reshape(-1, *mask.shape[-2:]), reading)


def reading_of(view: View, batch: int) -> Reading | None:
    """How a view reads its leaf as matrices of blocks; None where it doesn't."""
    *stack, rows, cols = view.axes if len(view.axes) >= 2 else ((), (), ())
    merged = tuple(axis for run in stack for axis in run)
    listed = sorted((*merged, *rows, *cols))
    whole = listed == list(range(len(view.shape))) and bool(rows and cols)
    if not whole or len(stack) != batch or any(b != 1 for b in view.block[:-2]):
        return None
    return Reading(view.shape, tuple(rows), tuple(cols), merged)


def _forms(
    run: Callable[..., Any],
    apply: Callable[..., Any],
    params: Tree,
    weights: Mapping[str, Any],
    uses: Uses,
) -> dict[str, Callable[..., Any]]:
    """The programs by kind, of (arguments, inputs); tracing the sparse one fills `uses`."""
    kinds = {path: jax.tree.structure(weight) for path, weight in weights.items()}
    tree = jax.tree.structure(params)

    def sparse(arguments: Mapping[str, Any], inputs: jax.Array) -> Any:
        held = {path: jax.tree.unflatten(kinds[path], arrays) for path, arrays in arguments.items()}
        outputs, found = run(held, inputs)
        uses.update(found)
        return outputs

    def dense(arguments: Mapping[str, Any], inputs: jax.Array) -> Any:
        return apply(jax.tree.unflatten(tree, [arguments[p][0] for p in leaves(params)]), inputs)

    return {"sparse": sparse, "dense": dense}


def _said(uses: Sequence[Call | str], platforms: Sequence[str]) -> dict[str, list[str]]:
    """By platform, what becomes of a weight in each place where it is used."""
    return {platform: [_words(use, platform) for use in uses] for platform in platforms}


def _words(use: Call | str, platform: str) -> str:
    if isinstance(use, str):
        return f"unpacked: {use}"
    chosen = choice.choose(platform, use)
    if use.path == "dense" or not chosen.ratio or (use.path, chosen.path) == ("auto", "dense"):
        return f"unpacked: {chosen.why}"
    return f"block-sparse: {chosen.ratio:.2f} times as fast as dense, {chosen.why}"


def _exported(
    export: ModuleType,
    run: Callable[..., Any],
    arguments: Any,
    example: jax.ShapeDtypeStruct,
    platform: str,
) -> Any:
    allowed = [export.DisabledSafetyCheck.custom_call(name) for name in CALLS]
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
    made = export.export(jax.jit(run), platforms=(platform,), disabled_checks=allowed)
    return made(shapes, example)
