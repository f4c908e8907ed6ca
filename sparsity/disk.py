"""What is on the disk after a power cut, and not only after a kill."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


def sync(path: Path) -> None:
    """Brings a file's contents, or a folder's list of names, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def make(folder: Path) -> None:
    """Makes a folder, and those above it, each listed on the disk in the one above."""
    if folder.is_dir():
        return
    if not folder.parent.exists():
        make(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def put(contents: Mapping[Path, bytes]) -> None:
    """Writes files that belong together under other names, and renames them once all are on the disk."""
    unfinished = {path: path.with_name(f"{path.name}.tmp") for path in contents}
    try:
        for path, content in contents.items():
            unfinished[path].write_bytes(content)
            sync(unfinished[path])
        for path, named in unfinished.items():
            named.replace(path)
        for folder in {path.parent for path in contents}:
            sync(folder)
    finally:
        for named in unfinished.values():
            named.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives an OSError the name of what was written: a disk that is full does not say which."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
