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
from sparsity.kernels import native, packed_files
from sparsity.kernels.columns import from_array
from sparsity.kernels.packed import PackedMatrix, Reading
from sparsity.kernels.served import FORMAT, PLATFORMS, TEXT, WEIGHTS, arguments_of, exporting
from sparsity.surgery.description import Masks, refuse_live, whole_masks
from sparsity.surgery.substitution import substituted
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
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes the folder's files, each whole or not at all, and returns what stands in serving.json.

    apply:     (params, inputs) -> outputs, of any library; nothing random, nothing trained.
    params:    the folded parameters, dead blocks 0.
    example:   shape and dtype of the inputs, the size of batch first.
    platforms: "cpu", "tpu", "cuda": what programs are made for.
    about:     plain JSON data, kept with the weights.

    Raises ValueError where masks and weights disagree, for an unknown platform, and without flatbuffers.
    """
    if odd := [name for name in platforms if name not in PLATFORMS.values()]:
        known = ", ".join(dict.fromkeys(PLATFORMS.values()))
        raise ValueError(f"a model is exported for {known}, not {odd[0]!r}")
    export = exporting()
    weights, dense = packed_weights(params, partition, masks)
    files = {WEIGHTS: packed_files.encode(weights, about)}
    uses: dict[str, Any] = {path: [reason] for path, reason in dense.items()}
    kernels: dict[str, list[str]] = {}
    for platform in platforms:
        for kind, run in _forms(apply, params, weights, uses).items():
            made = _exported(export, run, arguments_of(weights, kind), example, platform)
            files[f"{kind}-{platform}.jax"] = bytes(made.serialize())
            if kind == "sparse":
                module = made.mlir_module()
                kernels[platform] = [name for name in NAMED if f"@{name}(" in module]
    text = {
        "format": FORMAT,
        "jax": jax.__version__,
        "input": [list(example.shape), np.dtype(example.dtype).name],
        "kernels": kernels,
        "uses": uses,
        "files": {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items()},
    }
    disk.make(folder)
    rendered = json.dumps(text, indent=1).encode()
    disk.put({folder / name: raw for name, raw in (*files.items(), (TEXT, rendered))})
    return text


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
    apply: Callable[..., Any], params: Tree, weights: Mapping[str, Any], uses: dict[str, Any]
) -> dict[str, Callable[..., Any]]:
    """The programs by kind, of (arguments, inputs); tracing the sparse one fills `uses`."""
    kinds = {path: jax.tree.structure(weight) for path, weight in weights.items()}
    run, tree = substituted(apply, params), jax.tree.structure(params)

    def sparse(arguments: Mapping[str, Any], inputs: jax.Array) -> Any:
        held = {path: jax.tree.unflatten(kinds[path], arrays) for path, arrays in arguments.items()}
        outputs, found = run(held, inputs)
        uses.update(found)
        return outputs

    def dense(arguments: Mapping[str, Any], inputs: jax.Array) -> Any:
        return apply(jax.tree.unflatten(tree, [arguments[p][0] for p in leaves(params)]), inputs)

    return {"sparse": sparse, "dense": dense}


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
