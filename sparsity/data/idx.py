"""The IDX format of MNIST: a magic number, the dimensions, then the bytes.

Big-endian: two zero bytes, one for the type (0x08 unsigned bytes; no other is used by image sets),
one for the number of dimensions, then each dimension as 4 bytes, then the entries, the last
dimension fastest. The files are read plain or compressed by gzip, told apart by their first bytes.
"""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

GZIP = b"\x1f\x8b"
UNSIGNED_BYTE = 0x08


def read_idx(path: str | os.PathLike, dims: int) -> np.ndarray:
    """The uint8 array of `dims` dimensions in a file.

    Raises:
      ValueError: for a broken gzip, another magic number, type or number of dimensions, and for a
        length that is not the one that the dimensions ask for.
    """
    data = _content(Path(path))
    header = 4 + 4 * dims
    if data[:2] != b"\x00\x00":
        raise ValueError(
            f"{path}: not an IDX file: it starts with {data[:4].hex(' ') or 'nothing'}"
        )
    magic = bytes((0, 0, UNSIGNED_BYTE, dims))
    if data[:4] != magic:
        raise ValueError(
            f"{path}: expected the magic number {magic.hex(' ')} (unsigned bytes, {dims} "
            f"dimensions), found {data[:4].hex(' ')}"
        )
    if len(data) < header:
        raise ValueError(f"{path}: expected a header of {header} bytes, found {len(data)} in all")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", dims, 4))
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise ValueError(
            f"{path}: expected {expected} bytes for dimensions {shape}, found {len(data)}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.startswith(GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"{path}: its gzip stream of {len(data)} bytes is cut short or broken: {error}"
        ) from error
