"""Preparing click logs: text in, one array of integers out, in little memory and from where it was left.

The folder then holds

    rows.npy          int32 (N, 40): the label, 13 numbers, 26 rows of the embedding table
    vocabulary/*.npy  per category the values that have a row, uint32 ascending
    prepared.json     sizes, what was left out, and the SHA-256 of the text and of the rows

The stages are those of `stages`. Whatever ends the process, the next one goes on from the pieces that are
done; `prepared.json` is written last.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparsity.data.criteo import faults, stages
from sparsity.data.criteo.lines import CATEGORIES, COLUMNS, NUMBERS
from sparsity.data.criteo.stages import PARSED, ROWS, Coding, Piece
from sparsity.data.criteo.text import BLOCK, blocks, compressed
from sparsity.data.criteo.vocabulary import FIRST, offsets
from sparsity.data.criteo.workers import Call, Workers
from sparsity.disk import put, sync

FORMAT = 1
PREPARED, SETTINGS = "prepared.json", "settings.json"
Told = Callable[[str, int, int], None]


class Order(NamedTuple):
    """What to prepare. limit: malformed lines that are left out before it is an error. workers: processes,
    1 works in this one. block: bytes of text at a time.
    """

    source: Path
    folder: Path
    coding: Coding
    limit: int = 100
    workers: int = 2
    block: int = BLOCK


def prepare(order: Order, told: Told = lambda stage, done, total: None) -> dict[str, Any]:
    """Prepares a text, or goes on with it, and returns what `prepared.json` says.

    told: takes a stage, how much of it is done and how much there is (bytes of text, categories,
          rows; 0 where it is not known).

    Raises:
      FileNotFoundError: without the text.
      ValueError: for a folder that was begun with another text or other settings, a text that is
        not the click logs', torn, or has more malformed lines than the limit. What is done stays.
    """
    if not order.source.is_file():
        raise FileNotFoundError(f"{order.source}: no such file; see --help for what it should hold")
    if order.coding.floor < 1 or order.coding.buckets < 0:
        raise ValueError(f"{order.coding}: expected a floor of 1 or more, and 0 or more buckets")
    order.folder.mkdir(parents=True, exist_ok=True)
    _refuse_other(order)
    done = order.folder / PREPARED
    if not done.exists():
        with Workers(order.workers) as workers:
            pieces = _parsed(order, workers, told)
            sizes = _vocabulary(order, workers, len(pieces), told)
            _encoded(order, workers, pieces, sizes, told)
        found = _description(order, pieces, sizes)
        put({done: (json.dumps(found, indent=1) + "\n").encode()})
    shutil.rmtree(order.folder / PARSED, ignore_errors=True)
    return json.loads(done.read_text())


def _refuse_other(order: Order) -> None:
    """ValueError where the folder was begun with another text or other settings."""
    path = order.folder / SETTINGS
    size = order.source.stat().st_size
    asked = {
        "format": FORMAT,
        "text": order.source.name,
        "size": size,
        "block": order.block,
        **order.coding._asdict(),
    }
    if not path.exists():
        put({path: json.dumps(asked).encode()})
        return
    there = json.loads(path.read_text())
    if there != asked:
        changed = [k for k in asked if asked[k] != there.get(k)]
        listed = ", ".join(f"{k} {there.get(k)} then and {asked[k]} now" for k in changed)
        raise ValueError(
            f"{order.folder} was begun with something else: {listed}; take another folder"
        )


def _parsed(order: Order, workers: Workers, told: Told) -> list[Piece]:
    """All pieces, in order; those that are there already are only compared with the text."""
    total = 0 if compressed(order.source) else order.source.stat().st_size
    pieces: dict[int, Piece] = {}

    def ended(index: int, piece: Piece) -> None:
        pieces[index] = piece
        faults.refuse_foreign(order.source, pieces.get(0))
        faults.refuse_many(order.source, pieces, order.limit)
        told("parse", sum(p.ends - _begin(pieces, i) for i, p in pieces.items()), total)

    workers.run(_unparsed(order, ended), ended)
    found = [pieces[i] for i in range(len(pieces))]
    faults.refuse_torn(order.source, found)
    return found


def _unparsed(order: Order, known: Callable[[int, Piece], None]) -> Iterator[tuple[int, Call]]:
    """Calls that parse the blocks left; `known` takes the pieces that are there already."""
    for index, block in enumerate(blocks(order.source, order.block)):
        piece = stages.piece_of(order.folder, index)
        if piece is None:
            yield index, Call(stages.parse_block, (order.folder, index, *block))
        elif piece.digest == block.digest:
            known(index, piece)
        else:
            raise ValueError(
                f"{order.source} is not the text that {order.folder} was begun with: it differs at "
                f"or before line {piece.first + piece.lines - 1}; take another folder"
            )


def _begin(pieces: dict[int, Piece], index: int) -> int:
    before = pieces.get(index - 1)
    return before.ends if before else pieces[index].ends if index else 0


def _vocabulary(order: Order, workers: Workers, blocks: int, told: Told) -> list[int]:
    """Per category its rows in the embedding table."""
    if order.coding.buckets:
        return [FIRST + order.coding.buckets] * CATEGORIES
    kept: dict[int, int] = {}

    def ended(category: int, count: int) -> None:
        kept[category] = count
        told("choose", len(kept), CATEGORIES)

    settings = (order.folder, blocks)
    workers.run(
        (
            (c, Call(stages.choose_values, (*settings, c, order.coding.floor)))
            for c in range(CATEGORIES)
        ),
        ended,
    )
    return [FIRST + kept[c] for c in range(CATEGORIES)]


def _encoded(
    order: Order, workers: Workers, pieces: list[Piece], sizes: list[int], told: Told
) -> None:
    """Fills the array of rows, block by block; those whose columns are gone are in it."""
    starts = tuple(int(n) for n in offsets(sizes))
    ends = np.cumsum([piece.rows for piece in pieces]).tolist()
    if starts[-1] >= 2**31:
        raise ValueError(f"{starts[-1]} rows of the embedding table are more than 31 bits number")
    left = [i for i in range(len(pieces)) if stages.columns_of(order.folder, i).exists()]
    if not (order.folder / ROWS).exists():
        _begin_rows(order.folder, ends[-1], len(pieces) - len(left))
    done = ends[-1] - sum(pieces[i].rows for i in left)

    def ended(index: int, rows: int) -> None:
        nonlocal done
        done += rows
        told("encode", done, ends[-1])

    calls = (
        (i, (order.folder, i, ends[i] - pieces[i].rows, starts[:-1], order.coding)) for i in left
    )
    workers.run(((i, Call(stages.encode_block, args)) for i, args in calls), ended)


def _begin_rows(folder: Path, rows: int, gone: int) -> None:
    """The array with all rows 0. gone: blocks that were encoded into an earlier one, and can't be again."""
    path = folder / ROWS
    if gone:
        raise ValueError(
            f"{path} is gone, and {gone} blocks were in it alone; delete {folder} and prepare the set once more"
        )
    new = path.with_suffix(".new")
    np.lib.format.open_memmap(new, "w+", np.int32, (rows, COLUMNS))
    new.rename(path)
    sync(folder)


def _description(order: Order, pieces: list[Piece], sizes: list[int]) -> dict[str, Any]:
    rows = order.folder / ROWS
    with rows.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    reasons = [reason for piece in pieces for reason in piece.reasons][: stages.KEPT_REASONS]
    text = {"name": order.source.name, "bytes": pieces[-1].ends, "sha256": pieces[-1].digest}
    return {
        "format": FORMAT,
        "rows": sum(piece.rows for piece in pieces),
        "numbers": NUMBERS,
        "vocabulary": sizes,
        "coding": order.coding._asdict(),
        "text": {**text, "lines": sum(piece.lines for piece in pieces)},
        "malformed": {"count": sum(piece.bad for piece in pieces), "first": reasons},
        "file": {"name": ROWS, "bytes": rows.stat().st_size, "sha256": digest},
    }
