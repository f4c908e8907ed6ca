"""A folder that knows its own contents: the SHA-256 of every file, written last, checked before reading.

Orbax restores a flipped bit as a wrong number without a word, so that what it reads is checked here.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from sparsity.disk import sync

SUMS = "sha256.json"


def seal(folder: Path, version: int) -> None:
    """Writes the sums of every file under `folder`, and brings all of it to the disk."""
    files = {
        name: {"bytes": path.stat().st_size, "sha256": _digest(path)}
        for name, path in _files(folder).items()
    }
    (folder / SUMS).write_text(_text({"format": version, "files": files}))
    for path in (*folder.rglob("*"), folder):
        sync(path)


def damage(folder: Path) -> str:
    """What is wrong with a sealed folder, "" where it is as it was sealed.

    A file that was not there at the time counts: whoever reads the folder might read it too.
    """
    try:
        listed = _listed(folder)["files"]
        found = _files(folder)
        odd = sorted(listed.keys() ^ found.keys())
        if odd:
            return f"{odd[0]} is {'missing' if odd[0] in listed else 'not a file that was saved'}"
        return next(filter(None, (_change(n, p, listed[n]) for n, p in found.items())), "")
    except (OSError, ValueError) as error:
        return str(error)


def version_of(folder: Path) -> int:
    """The format version of an undamaged sealed folder."""
    return _listed(folder)["format"]


def _change(name: str, path: Path, listed: dict[str, Any]) -> str:
    size = path.stat().st_size
    if size != listed["bytes"]:
        return f"{name} holds {size} bytes of {listed['bytes']}"
    return "" if _digest(path) == listed["sha256"] else f"{name} has changed since it was saved"


def _files(folder: Path) -> dict[str, Path]:
    found = (path for path in sorted(folder.rglob("*")) if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in found if path != folder / SUMS}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(content: dict[str, Any]) -> str:
    """JSON of `content` with its own sum: one text for one content, so that any change shows.

    Later formats keep this, so that a damaged file is never taken for one of a later format.
    """
    own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sum": own}, sort_keys=True, indent=1)


def _listed(folder: Path) -> dict[str, Any]:
    """The content of the sums' file; ValueError where it is missing or not as it was written."""
    try:
        text = (folder / SUMS).read_text()
    except FileNotFoundError:
        raise ValueError(f"{SUMS} is missing") from None
    content = _parsed(text)
    if not content or _text(content) != text:
        raise ValueError(f"{SUMS} has changed since it was saved")
    if not _well_formed(content):
        raise ValueError(f"{SUMS} is not of a checkpoint, though nothing in it has changed")
    return content


def _well_formed(content: dict[str, Any]) -> bool:
    """Whether it is what `seal` writes: whoever wrote the file may have summed anything."""
    files = content.get("files")
    return (
        type(content.get("format")) is int
        and isinstance(files, dict)
        and all(isinstance(f, dict) and f.keys() == {"bytes", "sha256"} for f in files.values())
    )


def _parsed(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
        return {key: value for key, value in content.items() if key != "sum"}
    except (ValueError, AttributeError, RecursionError):
        return {}
