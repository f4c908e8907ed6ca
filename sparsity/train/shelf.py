"""The folder in which checkpoints lie by their step: which are there, and how one takes its place whole."""

import os
import re
import shutil
from pathlib import Path

from sparsity import disk

UNFINISHED = ".tmp"
ASIDE = f".old{UNFINISHED}"


def steps(folder: Path) -> list[int]:
    """Of what was saved to the end, ascending; not verified."""
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))


def unfinished(folder: Path, step: int) -> Path:
    """Where a checkpoint is written before it takes its place."""
    return folder / f"{step}{UNFINISHED}"


def begin(folder: Path, step: int) -> Path:
    """An empty folder for a checkpoint that is to be written; makes what is above it, and sets it right."""
    disk.make(folder)
    recover(folder)
    path = unfinished(folder, step)
    path.mkdir()
    return path


def finish(folder: Path, step: int) -> None:
    """Puts what was begun in its place, in exchange for what is there."""
    final = folder / str(step)
    aside = final.with_name(f"{final.name}{ASIDE}")
    if final.exists():  # a rename goes over no folder that holds something
        final.rename(aside)
    unfinished(folder, step).rename(final)
    disk.sync(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def drop_older(folder: Path, step: int, keep: int) -> None:
    """Deletes all but the newest `keep` up to a step."""
    for old in [s for s in steps(folder) if s <= step][:-keep]:
        # Under another name first: killed halfway, it must not look like a checkpoint.
        shutil.rmtree((folder / str(old)).rename(folder / f"{old}{UNFINISHED}"))


def recover(folder: Path) -> None:
    """Removes what a killed or failed save has left, and puts back what it had moved aside.

    For whoever may write there: a save that is under way would lose what it has.
    """
    for path in folder.glob(f"[0-9]*{ASIDE}"):
        final = path.with_name(path.name.removesuffix(ASIDE))
        if not final.exists():
            path.rename(final)
    for path in folder.glob(f"[0-9]*{UNFINISHED}"):
        shutil.rmtree(path, ignore_errors=True)
