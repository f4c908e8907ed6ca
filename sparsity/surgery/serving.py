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
from typing import Any

import jax
import numpy as np

from sparsity import disk
from sparsity.kernels import packed_files
from sparsity.kernels.backends import BACKENDS
from sparsity.kernels.columns import from_array
from sparsity.kernels.packed import PackedMatrix, Reading
from sparsity.kernels.served import FORMAT, TEXT, WEIGHTS, exporting
from sparsity.surgery.description import Masks, refuse_live, whole_masks
from sparsity.surgery.forms import said
from sparsity.surgery.programs import exported
from sparsity.units.partition import Group, Partition, Tree, View, leaves, tiles


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
    path:      of the products: "sparse" takes the kernels wherever there are some, "auto" only where they are
               expected to be faster than dense weights, which the others are served as: they are packed on
               the disk, and unpacked once, when the model is loaded.
    about:     plain JSON data, kept with the weights.

    Raises ValueError where masks and weights disagree, for an unknown platform, for outputs that are not one
    array with a row per example, and without flatbuffers.
    """
    exporting()
    _check_platforms(platforms)
    _check_outputs(jax.eval_shape(apply, params, example), example)
    weights, dense = packed_weights(params, partition, masks)
    made = {
        platform: exported(apply, params, weights, example, platform, path)
        for platform in platforms
    }
    files = {
        f"{kind}-{platform}.jax": bytes(program.serialize())
        for platform, programs in made.items()
        for kind, program in programs.kinds.items()
    }
    files[WEIGHTS] = packed_files.encode(weights, about)
    text = {
        "format": FORMAT,
        "jax": jax.__version__,
        "input": [list(example.shape), np.dtype(example.dtype).name],
        "kernels": {platform: programs.named for platform, programs in made.items()},
        "forms": {platform: programs.forms for platform, programs in made.items()},
        "uses": said({platform: programs.uses for platform, programs in made.items()}, dense),
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
