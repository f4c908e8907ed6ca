"""Checkpoints on disk: saved whole or not at all, and verified before they are read.

A checkpoint is the folder <step>/: `arrays` (Orbax), `tree.json` (which leaf is where in them),
`extra.json`, and `sha256.json` over all of them. Nothing in it is code.
"""

import contextlib
import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from sparsity import disk
from sparsity.train.packing import Leaf, Tree, describe, differences, pack, stored_as, unpack
from sparsity.train.sums import damage, seal, version_of

FORMAT = 1
UNFINISHED = ".tmp"
ASIDE = f".old{UNFINISHED}"


def save(folder: Path, step: int, tree: Tree, extra: Mapping[str, Any], keep: int = 2) -> Path:
    """Writes the checkpoint folder/<step> and deletes all but the newest `keep` up to this step.

    tree:  a pytree of arrays of numbers and bools (random keys as jax.random.key_data).
    extra: plain JSON data (tuples come back as lists).

    Older ones go only once the new one is verified on disk. Raises ValueError for what can't be saved
    and OSError where it can't be written (a full disk): then nothing has changed.
    """
    if jax.process_count() > 1:
        raise ValueError(f"checkpoints are of one process, not of {jax.process_count()}")
    if keep < 1 or step < 0:
        raise ValueError(f"keep={keep}, step={step}: expected keep >= 1 and step >= 0")
    described = describe(tree)
    texts = {"tree.json": _json(list(described.items())), "extra.json": _json(dict(extra))}
    folder = folder.absolute()
    final, unfinished = folder / str(step), folder / f"{step}{UNFINISHED}"
    try:
        disk.make(folder)
        recover(folder)
        _write(unfinished, pack(tree, described), texts)
        _replace(final, unfinished)
    except Exception as error:
        recover(folder)
        if (number := _os_error(error)) is None:
            raise
        problem = f"{os.strerror(number)}; not saved, older checkpoints are kept"
        raise OSError(number, problem, str(final)) from error
    for old in [s for s in _steps(folder) if s <= step][:-keep]:
        # Under another name first: killed halfway, it must not look like a checkpoint.
        shutil.rmtree((folder / str(old)).rename(folder / f"{old}{UNFINISHED}"))
    return final


def latest(folder: Path) -> int | None:
    """The newest step that was saved to the end, not verified; None where there is none."""
    return max(_steps(folder), default=None)


def restore(
    folder: Path, like: Tree, step: int | None = None
) -> tuple[Tree, dict[str, Any], list[str]]:
    """(tree, extra, notes) of the newest checkpoint that is intact, or of `step` alone.

    like: a tree of the same structure, shapes and dtypes (arrays or jax.ShapeDtypeStructs). Arrays get
          its shardings; where it holds numpy arrays or numbers, so does the result.

    The notes say which damaged checkpoints were passed over and why. Raises ValueError where none is
    intact, and where the newest intact one is of a later format or differs from `like`.
    """
    steps = sorted(_steps(folder), reverse=True)
    if step is not None and step not in steps:
        raise ValueError(f"no checkpoint of step {step} in {folder}; there are {steps[::-1]}")
    notes: list[str] = []
    for tried in steps if step is None else [step]:
        path = folder.absolute() / str(tried)
        if not (problem := damage(path)):
            return *_read(path, like), notes
        notes.append(f"the checkpoint of step {tried} is damaged: {problem}")
    raise ValueError(f"no checkpoint to restore in {folder}" + "".join(f"\n  {n}" for n in notes))


def _write(folder: Path, arrays: Mapping[str, Any], texts: Mapping[str, str]) -> None:
    folder.mkdir()
    stored: Any = dict(arrays)  # Orbax's type for a tree of arrays takes no dict
    if stored:
        with _context(), _told_once():
            ocp.save(str(folder / "arrays"), stored)
    for name, text in texts.items():
        (folder / name).write_text(text)
    seal(folder, FORMAT)
    if problem := damage(folder):
        raise OSError(errno.EIO, problem)


def _read(path: Path, like: Tree) -> tuple[Tree, dict[str, Any]]:
    if (version := version_of(path)) > FORMAT:
        raise ValueError(
            f"the checkpoint {path} is of format {version} and this version reads format {FORMAT}: "
            "take a newer version, or name an older step"
        )
    described, extra = _described(path), _extra(path)
    if lines := differences(describe(like), described):
        shown = lines[:20] + [f"and {len(lines) - 20} more"] * (len(lines) > 20)
        raise ValueError(f"the checkpoint {path} is of another model:\n  " + "\n  ".join(shown))
    wanted: Any = stored_as(described, like)
    loaded: Any = {}
    if wanted:
        try:
            with _context():
                loaded = ocp.load(str(path / "arrays"), wanted)
        except Exception as error:  # whoever wrote the sums may have summed anything
            raise ValueError(f"the arrays of {path} can't be read: {error}") from error
    return unpack(described, loaded, like), extra


def _described(path: Path) -> dict[str, Leaf]:
    """Which leaf is where; ValueError where tree.json is not what `save` writes."""
    try:
        listed = json.loads((path / "tree.json").read_text())
        described = {
            name: Leaf(dtype, tuple(shape), place) for name, (dtype, shape, place) in listed
        }
        alone = [leaf.place for leaf in described.values() if leaf.place != leaf.dtype]
        if len({*alone}) == len(alone):
            return described
    except (ValueError, TypeError, RecursionError):
        pass
    raise ValueError(f"{path / 'tree.json'} does not list the leaves of a checkpoint")


def _extra(path: Path) -> dict[str, Any]:
    try:
        extra = json.loads((path / "extra.json").read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path / 'extra.json'} holds no JSON: {error}") from None
    if not hasattr(extra, "keys"):
        raise ValueError(f"{path / 'extra.json'} holds no JSON object but a {type(extra).__name__}")
    return extra


def _context() -> ocp.Context:
    context = ocp.Context()
    # Created in the background, a folder that can't be written keeps other threads waiting.
    context.asynchronous.create_directories_asynchronously = False
    return context


@contextlib.contextmanager
def _told_once() -> Iterator[None]:
    """Keeps Orbax from logging, with its traceback, the error that it also raises."""
    logger, plain = logging.getLogger("absl"), lambda record: not record.exc_info
    logger.addFilter(plain)
    try:
        yield
    finally:
        logger.removeFilter(plain)


def _json(data: Any) -> str:
    try:
        return json.dumps(data, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"extra is not plain JSON data: {error}") from None


def _steps(folder: Path) -> list[int]:
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))


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


def _replace(final: Path, unfinished: Path) -> None:
    aside = final.with_name(f"{final.name}{ASIDE}")
    if final.exists():  # a rename goes over no folder that holds something
        final.rename(aside)
    unfinished.rename(final)
    disk.sync(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _os_error(error: Exception) -> int | None:
    """The system's number where the disk is to blame; Orbax hides it in a text."""
    hidden = re.search(r"os_error_code='(\d+)'", str(error))
    return int(hidden[1]) if hidden else getattr(error, "errno", None)
