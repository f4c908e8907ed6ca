"""Where the records of TFRecord files begin: found once a file and kept in a sidecar beside it.

A sidecar is written whole or not at all, one per file, so that indexing which was stopped goes on with the
files that are left. It holds the size of its file and a checksum of its own: that of another file, or a
damaged one, is made anew. Where the folder cannot be written to, the sidecars lie under the user's cache.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sparsity.data import tfrecord
from sparsity.data.crc32c import crc32c

MAGIC = b"offsets1"
HEADER = 3  # 8-byte numbers: the magic, the size of the file, the checksum of the offsets
SUFFIX = ".offsets"
READERS = 8  # files indexed at a time; it is the disk that takes the time
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sparsity" / "offsets"


def offsets(
    paths: Sequence[Path], said: Callable[[str], None] = lambda line: None
) -> list[np.ndarray]:
    """Of each file the offsets of its records, int64, ascending; `said` takes a line of progress.

    Raises ValueError as `tfrecord.starts`; what was indexed before it is kept.
    """
    with ThreadPoolExecutor(READERS) as pool:
        found, new = [], 0
        for path, (index, made) in zip(paths, pool.map(_offsets, paths), strict=True):
            found.append(index)
            new += made
            if made and (new & (new - 1) == 0 or len(found) == len(paths)):
                said(
                    f"{path.parent}: {len(found)} of {len(paths)} files have their records indexed"
                )
    return found


def _offsets(path: Path) -> tuple[np.ndarray, bool]:
    """The offsets, and whether they had to be found."""
    size = path.stat().st_size
    for place in _places(path):
        if (known := _kept(place, size)) is not None:
            return known, False
    index = np.fromiter(tfrecord.starts(path), np.int64)
    _keep(path, size, index)
    return index, True


def _places(path: Path) -> tuple[Path, Path]:
    """Beside the file, or else in the cache under a name of its own."""
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]
    return path.with_name(path.name + SUFFIX), CACHE / f"{name}-{path.name}{SUFFIX}"


def _kept(place: Path, size: int) -> np.ndarray | None:
    """The offsets of a sidecar; None where it is not there, damaged, or of a file of another size."""
    try:
        data = place.read_bytes()
    except OSError:
        return None
    head, body = data[: 8 * HEADER], data[8 * HEADER :]
    if head != _header(size, body) or len(body) % 8:
        return None
    return np.frombuffer(body, "<i8").astype(np.int64)


def _keep(path: Path, size: int, index: np.ndarray) -> None:
    body = index.astype("<i8").tobytes()
    for place in _places(path):
        part = place.with_name(f"{place.name}.{os.getpid()}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(_header(size, body) + body)
            part.replace(place)
            return
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()


def _header(size: int, body: bytes) -> bytes:
    return MAGIC + size.to_bytes(8, "little") + crc32c(body).to_bytes(8, "little")
