"""TFRecord files: where their records begin, and one record at a place, its checksum verified.

A record is its length (8 bytes, little-endian), the masked CRC32C of these 8 bytes (4), the data, and the
masked CRC32C of the data (4). Source: TensorFlow's documentation, "TFRecord and tf.train.Example".
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from sparsity.data.crc32c import crc32c, masked

HEAD, TAIL = 12, 4
LENGTH = struct.Struct("<QI")
CHECK = struct.Struct("<I")


def starts(path: str | os.PathLike) -> Iterator[int]:
    """The offset of each record of a file; of the data no byte is read.

    Raises ValueError, which names the file and the offset, for a length whose checksum is wrong and a
    record that is cut short.
    """
    with open(path, "rb", buffering=0) as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            end = at + HEAD + _length(file, path, at) + TAIL
            if end > size:
                raise _cut(path, at, end - at, size - at)
            yield at
            at = end


def read_at(path: str | os.PathLike, offset: int) -> bytes:
    """The data of the record that begins at an offset.

    Raises ValueError, which names the file and the offset, for a wrong checksum and a record that is
    cut short.
    """
    with open(path, "rb", buffering=0) as file:
        length = _length(file, path, offset)
        body = _read(file, offset + HEAD, length + TAIL)
    if len(body) < length + TAIL:
        raise _cut(path, offset, HEAD + length + TAIL, HEAD + len(body))
    data = body[:length]
    if masked(crc32c(data)) != CHECK.unpack(body[length:])[0]:
        raise ValueError(
            f"{path}: the record at byte {offset} is damaged: its {length} bytes do not give its "
            "checksum"
        )
    return data


def _length(file: BinaryIO, path: str | os.PathLike, offset: int) -> int:
    head = _read(file, offset, HEAD)
    if len(head) < HEAD:
        raise _cut(path, offset, HEAD, len(head))
    length, check = LENGTH.unpack(head)
    if masked(crc32c(head[:8])) != check:
        raise ValueError(
            f"{path}: no record at byte {offset}: its length does not give its checksum; the file is "
            "damaged, or no TFRecord file"
        )
    return length


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """As many bytes as there are, up to `size`."""
    return os.pread(file.fileno(), size, offset)


def _cut(path: str | os.PathLike, offset: int, expected: int, found: int) -> ValueError:
    return ValueError(
        f"{path}: the record at byte {offset} is cut short: {expected} bytes were expected, {found} are "
        "there; copy the file again"
    )
