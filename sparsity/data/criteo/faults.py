"""Texts that are not click logs, or not whole, said in words."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sparsity.data.criteo.lines import COLUMNS
from sparsity.data.criteo.stages import Piece

NAMED = 5  # malformed lines that an error names


def refuse_foreign(source: Path, first: Piece | None) -> None:
    """ValueError where no line of the first block is one of the click logs."""
    if first and first.lines and not first.rows and not (first.torn and first.lines == 1):
        raise ValueError(f"{source}: not the click logs: {_named([first])}{_hint(first)}")


def refuse_many(source: Path, pieces: Mapping[int, Piece], limit: int) -> None:
    """ValueError for more malformed lines than the limit, with the first of them."""
    bad = sum(piece.bad for piece in pieces.values())
    if bad > limit:
        listed = _named([pieces[i] for i in sorted(pieces)])
        raise ValueError(
            f"{source}: {bad} malformed lines so far, more than the limit of {limit}: {listed}"
        )


def refuse_torn(source: Path, pieces: Sequence[Piece]) -> None:
    """ValueError for a text that is empty, has no good line, or ends within one."""
    if not pieces:
        raise ValueError(f"{source} is empty")
    if pieces[-1].torn:
        last = pieces[-1].first + pieces[-1].lines - 1
        raise ValueError(f"{source} is torn: it ends in the middle of line {last}")


def _hint(piece: Piece) -> str:
    reason = piece.reasons[0][1]
    if reason.startswith(f"{COLUMNS - 1} columns"):
        return f"; {COLUMNS - 1} columns are those of test.txt, which has no labels"
    return "; expected a label, 13 integers and 26 hashes of 8 hex digits, with tabs between them"


def _named(pieces: Sequence[Piece]) -> str:
    reasons = [reason for piece in pieces for reason in piece.reasons][:NAMED]
    return ", ".join(f"line {line}: {reason}" for line, reason in reasons)
