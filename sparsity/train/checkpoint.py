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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from sparsity.train import shelf
from sparsity.train.board import ALONE, Board
from sparsity.train.packing import Leaf, Tree, describe, differences, pack, stored_as, unpack
from sparsity.train.sums import damage, seal, version_of

FORMAT = 1


def save(
    folder: Path,
    step: int,
    tree: Tree,
    extra: Mapping[str, Any],
    keep: int = 2,
    board: Board = ALONE,
) -> Path:
    """Writes the checkpoint folder/<step> and deletes all but the newest `keep` up to this step.

    tree:  a pytree of arrays of numbers and bools (random keys as jax.random.key_data).
    extra: plain JSON data (tuples come back as lists).
    board: of all processes, where there are several. Each calls this, and writes its parts of the arrays
           into the folder, which all of them see; process 0 does the rest.

    Older ones go only once the new one is verified on disk. Raises ValueError for what can't be saved
    and OSError where it can't be written (a full disk): then nothing has changed.
    """
    if jax.process_count() != board.count:
        raise ValueError(f"{jax.process_count()} processes save with notes of {board.count}")
    if keep < 1 or step < 0:
        raise ValueError(f"keep={keep}, step={step}: expected keep >= 1 and step >= 0")
    described = describe(tree)
    texts = {"tree.json": _json(list(described.items())), "extra.json": _json(dict(extra))}
    folder = folder.absolute()
    final = folder / str(step)
    try:
        unfinished = Path(board.told("save begun", lambda: str(shelf.begin(folder, step))))
        _write(unfinished, pack(tree, described))
        board.told("save done", lambda: _finish(folder, step, texts))
    except Exception as error:
        if board.index == 0:
            shelf.recover(folder)
        if (number := _os_error(error)) is None:
            raise
        problem = f"{os.strerror(number)}; not saved, older checkpoints are kept"
        raise OSError(number, problem, str(final)) from error
    board.told("save kept", lambda: shelf.drop_older(folder, step, keep))
    return final


def latest(folder: Path) -> int | None:
    """The newest step that was saved to the end, not verified; None where there is none."""
    return max(shelf.steps(folder), default=None)


def restore(
    folder: Path, like: Tree, step: int | None = None, board: Board = ALONE
) -> tuple[Tree, dict[str, Any], list[str]]:
    """(tree, extra, notes) of the newest checkpoint that is intact, or of `step` alone.

    like:  a tree of the same structure, shapes and dtypes (arrays or jax.ShapeDtypeStructs). Arrays get
           its shardings; where it holds numpy arrays or numbers, so does the result.
    board: of all processes, where there are several: each calls this, of whatever number had saved.
           Process 0 verifies and chooses for all.

    The notes say which damaged checkpoints were passed over and why. Raises ValueError where none is
    intact, and where the newest intact one is of a later format or differs from `like`.
    """
    chosen, notes = board.told("restored", lambda: _newest_intact(folder, step))
    return *_read(folder.absolute() / str(chosen), like), notes


def _newest_intact(folder: Path, step: int | None) -> tuple[int, list[str]]:
    steps = shelf.steps(folder)[::-1]
    if step is not None and step not in steps:
        raise ValueError(f"no checkpoint of step {step} in {folder}; there are {steps[::-1]}")
    notes: list[str] = []
    for tried in steps if step is None else [step]:
        if not (problem := damage(folder.absolute() / str(tried))):
            return tried, notes
        notes.append(f"the checkpoint of step {tried} is damaged: {problem}")
    raise ValueError(f"no checkpoint to restore in {folder}" + "".join(f"\n  {n}" for n in notes))


def _write(folder: Path, arrays: Mapping[str, Any]) -> None:
    """The arrays, each process its own parts."""
    stored: Any = dict(arrays)  # Orbax's type for a tree of arrays takes no dict
    if stored:
        with _context(), _told_once():
            ocp.save(str(folder / "arrays"), stored)


def _finish(folder: Path, step: int, texts: Mapping[str, str]) -> None:
    """Adds the texts to arrays that are written, seals all, and verifies it."""
    unfinished = shelf.unfinished(folder, step)
    for name, text in texts.items():
        (unfinished / name).write_text(text)
    seal(unfinished, FORMAT)
    if problem := damage(unfinished):
        raise OSError(errno.EIO, problem)
    shelf.finish(folder, step)


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


def _os_error(error: Exception) -> int | None:
    """The system's number where the disk is to blame; Orbax hides it in a text."""
    hidden = re.search(r"os_error_code='(\d+)'", str(error))
    return int(hidden[1]) if hidden else getattr(error, "errno", None)
