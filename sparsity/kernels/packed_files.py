"""Models on disk in packed form: one safetensors file, smaller than the dense one by its density.

A dense array stands under its own name. A block-sparse one is three arrays, `name:blocks`, `name:rows` and
`name:starts` (see columns.py), and an entry in the JSON text "sparsity" of the file's header:

    {"format": 1, "matrices": {name: {"block": [rows, cols], "dtype": ..., "shape": [...], "rows": [...],
     "cols": [...], "stack": [...], "live": n}}, "about": {...}}

where shape, rows, cols and stack are the `packed.Reading` of the array.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from sparsity.kernels import tensors
from sparsity.kernels.columns import Columns, check_columns, columns_from, packed_of
from sparsity.kernels.packed import PackedMatrix, Reading

FORMAT = 1
TEXT = "sparsity"
PARTS = ("blocks", "rows", "starts")

Weights = dict[str, Any]


def encode(weights: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> bytes:
    """The file of weights by name, each an array or a PackedMatrix.

    about: plain JSON data that is kept beside them. Raises ValueError for names or dtypes that a file
    cannot hold.
    """
    arrays: dict[str, np.ndarray] = {}
    matrices: dict[str, Any] = {}
    for name, weight in weights.items():
        if any(name.endswith(f":{part}") for part in PARTS):
            raise ValueError(f"the name {name!r} is that of a part of a packed matrix")
        if not isinstance(weight, PackedMatrix):
            arrays[name] = np.asarray(weight)
            continue
        columns = columns_from(weight)
        arrays |= {f"{name}:{part}": array for part, array in _parts(columns).items()}
        matrices[name] = _described(columns)
    text = {"format": FORMAT, "matrices": matrices, "about": dict(about or {})}
    return tensors.encode(arrays, {TEXT: json.dumps(text, allow_nan=False)})


def decode(raw: bytes) -> tuple[Weights, dict[str, Any]]:
    """(weights by name, about) of a file. Raises ValueError in words before anything reaches a device:

    a file that is cut short or foreign, a later format, blocks that do not fit what is said of them,
    indices that are out of range or not sorted, numbers that are not floating.
    """
    arrays, texts = tensors.decode(raw)
    text = _text(texts)
    try:
        columns = {name: _columns(name, said, arrays) for name, said in text["matrices"].items()}
        about = dict(text["about"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its description is not of a packed model: {error!r}") from None
    dense = {name: jnp.asarray(array) for name, array in arrays.items()}
    return dense | {name: packed_of(found) for name, found in columns.items()}, about


def save(
    path: Path | str, weights: Mapping[str, Any], about: Mapping[str, Any] | None = None
) -> None:
    """Writes a file, whole or not at all, and on the disk when this returns."""
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        unfinished.write_bytes(encode(weights, about))
        _sync(unfinished)
        unfinished.replace(path)
        _sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Brings a file's contents, or a folder's list of names, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def load(path: Path | str) -> tuple[Weights, dict[str, Any]]:
    """`decode` of a file; ValueError, with its name, where it can't be read or is damaged."""
    try:
        return decode(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _parts(columns: Columns) -> dict[str, np.ndarray]:
    return dict(zip(PARTS, (columns.blocks, columns.rows, columns.starts), strict=True))


def _described(columns: Columns) -> dict[str, Any]:
    reading = {key: list(axes) for key, axes in columns.reading._asdict().items()}
    return {
        "block": list(columns.block),
        "dtype": columns.blocks.dtype.name,
        **reading,
        "live": len(columns.blocks),
    }


def _text(texts: Mapping[str, str]) -> dict[str, Any]:
    try:
        text = json.loads(texts[TEXT])
        version = text["format"]
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError("it is a safetensors file, and not one of a packed model") from None
    if version != FORMAT:
        raise ValueError(f"it is of format {version!r}; this version reads format {FORMAT}")
    return text


def _columns(name: str, said: Mapping[str, Any], arrays: dict[str, np.ndarray]) -> Columns:
    """One matrix, taken out of the arrays and checked against what is said of it."""
    parts = {part: f"{name}:{part}" for part in PARTS}
    if missing := [key for key in parts.values() if key not in arrays]:
        raise ValueError(f"{missing[0]!r} is described and not there")
    reading = Reading(*(_axes(said[key]) for key in Reading._fields))
    blocks, rows, starts = (arrays.pop(key) for key in parts.values())
    columns = Columns(blocks, rows, starts, reading)
    found = (list(columns.blocks.shape), columns.blocks.dtype.name)
    if found != ([said["live"], *said["block"]], said["dtype"]):
        raise ValueError(
            f"{name!r} has blocks {found[1]}{found[0]}, and is described as {said['live']} of "
            f"{said['dtype']}{said['block']}"
        )
    try:
        return check_columns(columns)
    except ValueError as error:
        raise ValueError(f"{name!r} is no packed matrix: {error}") from None


def _axes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
        raise ValueError(f"its description holds {values!r} where numbers are listed")
    return tuple(values)
