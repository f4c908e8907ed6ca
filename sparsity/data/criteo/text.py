"""A text file, plain or gzipped, as blocks of whole lines with the SHA-256 of all text so far."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = 16 << 20  # bytes of text in a block, about 70,000 lines of Criteo's
# What other encodings begin with, and the magic of archives that are not read.
FOREIGN = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\xef\xbb\xbf": "UTF-8 with a byte order mark",
    b"PK\x03\x04": "a ZIP archive",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
}
Readable = io.BufferedReader | gzip.GzipFile
TAR = (257, b"ustar")


class Block(NamedTuple):
    """Whole lines; the file's last may lack its newline.

    first: number of the first line, from 1. digest: SHA-256 of the text up to this block's end.
    ends:  bytes of text up to there.
    """

    text: bytes
    first: int
    digest: str
    ends: int


def blocks(path: Path, size: int = BLOCK) -> Iterator[Block]:
    """The blocks of a file: a function of its text and of `size` alone, so that they can be counted on.

    Raises:
      ValueError: for a file that is no plain text, a gzip file that ends early or is damaged, and a
        line that is longer than a block.
    """
    digest, rest, first, ends = hashlib.sha256(), b"", 1, 0
    with _opened(path) as file:
        while text := _read(file, path, size):
            if not ends and not rest:
                _refuse_foreign(text, path)
            cut = text.rfind(b"\n") + 1
            if not cut and len(text) == size:
                raise ValueError(f"{path}: a line of more than {size} bytes: not a text of lines")
            whole, rest = (rest + text[:cut], text[cut:]) if cut else (b"", rest + text)
            if whole:
                digest.update(whole)
                ends += len(whole)
                yield Block(whole, first, digest.hexdigest(), ends)
                first += whole.count(b"\n")
    if rest:
        digest.update(rest)
        yield Block(rest, first, digest.hexdigest(), ends + len(rest))


def compressed(path: Path) -> bool:
    """Whether a file is gzipped, by its first bytes."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _opened(path: Path) -> Readable:
    return gzip.open(path) if compressed(path) else path.open("rb")


def _read(file: Readable, path: Path, size: int) -> bytes:
    try:
        return file.read(size)
    except EOFError:
        raise ValueError(f"{path}: the gzip file ends before its text does: it is torn") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: the gzip file is damaged: {error}") from error


def _refuse_foreign(text: bytes, path: Path) -> None:
    found = next((what for magic, what in FOREIGN.items() if text.startswith(magic)), "")
    place, magic = TAR
    if text[place : place + len(magic)] == magic:
        found = "a tar archive: unpack it and name its train.txt"
    if not found and b"\0" in text:
        found = "of bytes that no text has (the first NUL at byte "
        found += f"{text.index(0)}), perhaps UTF-16"
    if found:
        raise ValueError(f"{path}: expected lines of plain ASCII, but the file is {found}")
