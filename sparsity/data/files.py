"""Finding a data set's files, or saying what to download and where to put it."""

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

VARIABLE = "SPARSITY_DATA"


class Origin(NamedTuple):
    """Where a data set comes from: its folder under the root, and what to do to get it.

    `advice` may name the {root} of all data sets and the {place} of this one.
    """

    name: str
    folder: str
    advice: str


def root_of(root: str | os.PathLike | None) -> Path | None:
    """The folder of all data sets: the one given, else that of $SPARSITY_DATA, else none."""
    given = root or os.environ.get(VARIABLE)
    return Path(given) if given else None


def find(
    root: Path | None, origin: Origin, names: Sequence[str], suffixes: Sequence[str] = ("",)
) -> list[Path]:
    """The files called `names`, each with the first of the suffixes under which it exists.

    Raises:
      FileNotFoundError: which files were looked for, where, what to download, where to put it.
    """
    found: dict[str, Path] = {}
    for name, suffix in product(names, suffixes):
        path = root and root / origin.folder / f"{name}{suffix}"
        if path and path.is_file():
            found.setdefault(name, path)
    lacking = [f"{name}{' or '.join(suffixes)}" for name in names if name not in found]
    if lacking:
        raise absent(root, origin, lacking)
    return list(found.values())


def absent(root: Path | None, origin: Origin, names: Sequence[str]) -> FileNotFoundError:
    """The error for a data set that is not there."""
    place = (root.absolute() if root else Path("ROOT")) / origin.folder
    if root is None:
        why = f"no folder of data sets was given: pass root or set {VARIABLE}"
    else:
        why = f"not found in {place}" + ("" if root.is_dir() else " (there is no such root)")
    advice = origin.advice.format(root=place.parents[origin.folder.count("/")], place=place)
    return FileNotFoundError(f"data set {origin.name!r}: {', '.join(names)}: {why}. {advice}")
