"""The final model as plain files: weights as safetensors, and a JSON of masks and provenance.

Whoever reads them needs nothing of this library: attention and PowerPropagation are folded in and dead
blocks are exactly 0. `model.json` holds the format's version, the sum of `model.safetensors` with the
name, dtype and shape of each array in it, the groups (see description.py), and the provenance.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparsity import disk
from sparsity.contract import Context, Method, State
from sparsity.kernels.tensors import CODES
from sparsity.surgery.description import (
    Masks,
    described,
    groups_of,
    refuse_live,
    whole_masks,
)
from sparsity.units.blocks import Layer, densities
from sparsity.units.partition import Partition, Tree, scale

FORMAT = 1
WEIGHTS, TEXT = "model.safetensors", "model.json"


def folded(method: Method, state: State, context: Context) -> Tree:
    """The plain parameters that the wrapped model runs with, dead blocks +0, without randomness.

    Raises ValueError for a method that also needs hooks: its model is not plain.
    """
    applied = method.apply(state, dataclasses.replace(context, key=None))
    if applied.hooks:
        raise ValueError(f"the method needs hooks at {', '.join(applied.hooks)}: no plain model")
    # A weight times the 0 of a mask is -0 where the weight is negative.
    return jax.tree.map(lambda w: jnp.where(w == 0, jnp.zeros_like(w), w), applied.params)


def write(
    folder: Path,
    params: Tree,
    *,
    partition: Partition,
    masks: Mapping[str, Any],
    layers: Sequence[Layer],
    provenance: Mapping[str, Any],
) -> None:
    """Writes model.safetensors and model.json, each whole or not at all.

    params:     the folded parameters, with batch statistics or other collections beside them.
    masks:      0/1 per unit, by group; groups that are not named are alive.
    layers:     the resolved table, for the densities that were asked.
    provenance: plain JSON data: config, versions, seed, step.

    Raises ValueError where masks and weights disagree or something can't be written.
    """
    alive = whole_masks(partition, masks)
    refuse_live(partition, alive, params)
    params = scale(partition, {name: jnp.asarray(mask) for name, mask in alive.items()}, params)
    arrays = _flat(params)
    weights = _bytes(arrays)
    text = {
        "format": FORMAT,
        "weights": {
            "sha256": hashlib.sha256(weights).hexdigest(),
            "arrays": {name: [x.dtype.name, list(x.shape)] for name, x in arrays.items()},
        },
        "groups": described(partition, alive, densities(layers)),
        "provenance": dict(provenance),
    }
    try:
        rendered = json.dumps(text, indent=1, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"the provenance is not plain JSON data: {error}") from None
    folder.mkdir(parents=True, exist_ok=True)
    disk.put({folder / WEIGHTS: weights, folder / TEXT: rendered})


def read(folder: Path) -> tuple[dict[str, Any], Masks, dict[str, Any]]:
    """(arrays in nested dicts, masks as bool arrays by group, all of model.json).

    Raises ValueError where a file is missing, cut short, changed, foreign or of a later format, or the
    two don't belong together; nothing is read in part.
    """
    text = _text(folder / TEXT)
    try:
        weights = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise ValueError(f"{folder / WEIGHTS} can't be read: {error.strerror}") from None
    try:
        arrays = _arrays(weights, text["weights"]["arrays"])
        if hashlib.sha256(weights).hexdigest() != text["weights"]["sha256"]:
            raise ValueError(f"the numbers of {WEIGHTS} are not those that {TEXT} was written for")
        partition, masks = groups_of(text["groups"])
        params = _nested(arrays)
        refuse_live(partition, masks, params)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / TEXT} is not of a model: {error!r}") from None
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    return params, masks, text


def _flat(params: Tree) -> dict[str, np.ndarray]:
    found = jax.tree_util.tree_leaves_with_path(jax.device_get(params))
    flat = {}
    for keys, leaf in found:
        parts = [jax.tree_util.keystr((key,), simple=True) for key in keys]
        if any("/" in part for part in parts):
            raise ValueError(f"the key {parts} holds '/', which joins keys in {WEIGHTS}")
        flat["/".join(parts)] = np.asarray(leaf, order="C")
    return flat


def _nested(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, last = name.split("/")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node, dict) else node
        if not isinstance(node, dict) or last in node:
            raise ValueError(f"{name!r} is both an array and a folder of arrays")
        node[last] = array
    return nested


def _bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    for name, array in arrays.items():
        if array.dtype.name not in CODES:
            raise ValueError(f"{name!r} is {array.dtype}: {WEIGHTS} holds {', '.join(CODES)}")
    return _safetensors().numpy.save(dict(arrays))


def _arrays(raw: bytes, listed: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, if they are the listed ones, in their order."""
    safetensors = _safetensors()
    try:
        found = dict(safetensors.deserialize(raw))
    except safetensors.SafetensorError as error:
        raise ValueError(f"{WEIGHTS} is cut short or no safetensors file: {error}") from None
    if odd := sorted(found.keys() ^ listed.keys()):
        where = (TEXT, WEIGHTS) if odd[0] in found else (WEIGHTS, TEXT)
        raise ValueError(f"{odd[0]!r} is in {where[1]} and not in {where[0]}")
    return {name: _array(name, found[name], *kind) for name, kind in listed.items()}


def _array(name: str, found: Mapping[str, Any], dtype: str, shape: list[int]) -> np.ndarray:
    if (found["dtype"], list(found["shape"])) != (CODES.get(dtype), shape):
        raise ValueError(
            f"{name!r} is {found['dtype']} {found['shape']} in {WEIGHTS}, {dtype} {shape} in {TEXT}"
        )
    return np.frombuffer(found["data"], jnp.dtype(dtype)).reshape(shape)


def _text(path: Path) -> dict[str, Any]:
    try:
        text = json.loads(path.read_bytes())
        version = text["format"]
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is cut short or not the JSON of a model") from None
    if version != FORMAT:
        raise ValueError(f"{path} is of format {version!r}; this version reads format {FORMAT}")
    return text


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise ValueError(
            f"{WEIGHTS} needs the package safetensors, which the extra `export` brings: "
            "pip install 'sparsity[export]'"
        ) from None
    return safetensors
