"""The safetensors file format in numpy alone, so that serving needs no other package.

A file is 8 bytes with the length of its header (little-endian), the header as JSON, and the arrays one behind
the other. The header names each array's dtype, shape and place, counted from the header's end; texts that
belong to the file stand under "__metadata__". https://github.com/huggingface/safetensors, "Format".
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

# dtypes as numpy calls them, and in a file.
CODES = {
    "bool": "BOOL",
    **{
        f"{sign}int{bits}": f"{sign.upper() or 'I'}{bits}"
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
NAMES = {code: name for name, code in CODES.items()}
TEXTS = "__metadata__"

Arrays = dict[str, np.ndarray]


def encode(arrays: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> bytes:
    """The file of arrays by name. Raises ValueError for a dtype that the format has no name for."""
    found = {name: np.asarray(array) for name, array in arrays.items()}
    # The widest first: then each array begins at a multiple of its own width.
    found = dict(sorted(found.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    header: dict[str, Any] = {TEXTS: dict(texts)} if texts else {}
    end = 0
    for name, array in found.items():
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": _code(name, array),
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(_raw(a) for a in found.values())])


def decode(raw: bytes) -> tuple[Arrays, dict[str, str]]:
    """(arrays by name, texts) of a file; the arrays look into `raw` and cannot be written.

    Raises ValueError where it is cut short, has bytes that belong to no array, or is no such file.
    """
    header, body = _split(raw)
    texts = header.pop(TEXTS, {})
    try:
        places = {name: _place(entry) for name, entry in header.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"its header is not that of a safetensors file: {error!r}") from None
    _refuse_gaps([place for _, _, place in places.values()], len(body))
    arrays = {
        name: np.frombuffer(body[begin:end], dtype).reshape(shape)
        for name, (dtype, shape, (begin, end)) in places.items()
    }
    return arrays, texts


def read(path: Path) -> tuple[Arrays, dict[str, str]]:
    """`decode` of a file; ValueError, with its name, where it can't be read or is damaged."""
    try:
        return decode(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _split(raw: bytes) -> tuple[dict[str, Any], memoryview]:
    size = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or len(raw) - 8 < size:
        raise ValueError(f"{len(raw)} bytes are cut short, or no safetensors file")
    try:
        header = dict(json.loads(raw[8 : 8 + size]))
    except (ValueError, TypeError, RecursionError):
        raise ValueError("its header is no JSON object: it is no safetensors file") from None
    return header, memoryview(raw)[8 + size :]


def _place(entry: Mapping[str, Any]) -> tuple[np.dtype, tuple[int, ...], tuple[int, int]]:
    """(dtype, shape, (begin, end)) of one array."""
    if entry["dtype"] not in NAMES:
        raise ValueError(f"dtype {entry['dtype']!r} is none of {', '.join(NAMES)}")
    dtype = jnp.dtype(NAMES[entry["dtype"]])
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    if any(type(n) is not int or n < 0 for n in (*shape, begin, end)):
        raise ValueError(f"{entry} holds what is no size")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{end - begin} bytes do not hold {shape} of {dtype}")
    return dtype, shape, (begin, end)


def _refuse_gaps(places: list[tuple[int, int]], size: int) -> None:
    reached = 0
    for begin, end in sorted(places):
        if begin != reached:
            raise ValueError(f"its arrays overlap or leave a gap at byte {min(begin, reached)}")
        reached = end
    if reached != size:
        raise ValueError(f"it is cut short or too long: {size} bytes of numbers, {reached} named")


def _code(name: str, array: np.ndarray) -> str:
    if array.dtype.name not in CODES:
        raise ValueError(f"{name!r} is {array.dtype}: a safetensors file holds {', '.join(CODES)}")
    return CODES[array.dtype.name]


def _raw(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
