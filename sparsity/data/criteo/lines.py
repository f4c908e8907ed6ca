"""Lines of `train.txt` as columns of integers, parsed a block at a time with NumPy alone.

A line is a label, 13 whole numbers and 26 categories of 8 hexadecimal digits, separated by tabs; any of the
39 may be empty. Eight characters are read as one 64-bit word and decoded together, by the usual carry-free
arithmetic on bytes.
"""

from typing import NamedTuple

import numpy as np

NUMBERS, CATEGORIES = 13, 26
COLUMNS = 1 + NUMBERS + CATEGORIES
NAMES = (
    "label",
    *(f"I{i}" for i in range(1, NUMBERS + 1)),
    *(f"C{i}" for i in range(1, CATEGORIES + 1)),
)
MISSING = np.int32(-(2**31))  # in place of an empty number; no number of the set is as low
TAB, NEWLINE, MINUS, ZERO = b"\t\n-0"
WIDTH = 8  # characters per word
SHOWN = 40  # characters of a bad field that are printed


class Parsed(NamedTuple):
    """The good lines of a block, and what is wrong with the others.

    columns: int32 (40, n). The first holds the label in bit 0 and in bit 1 + c whether category c is
             there; 13 of numbers (MISSING where empty); 26 of categories, their 32 bits.
    bad:     (line, reason) of each line that is left out, lines counted from 0 in the block.
    lines:   of the block.
    """

    columns: np.ndarray
    bad: tuple[tuple[int, str], ...]
    lines: int


def parse(block: bytes) -> Parsed:
    """The columns of a block of whole lines; the last one may lack its newline."""
    if block and block[-1] != NEWLINE:
        block += b"\n"
    framed = b"\0" * WIDTH + block + b"\0" * WIDTH
    starts, ends, lines, bad = _fields(framed)
    words = np.ndarray(len(framed) - WIDTH + 1, "<u8", framed, strides=(1,))
    labels, good_label = _labels(framed, starts[:, 0], ends[:, 0])
    numbers, good_number = _numbers(framed, words, starts[:, 1:14], ends[:, 1:14])
    hashes, present, good_hash = _hashes(words, starts[:, 14:], ends[:, 14:])
    good = np.concatenate([good_label[:, None], good_number, good_hash], 1)
    whole = good.all(1)
    columns = np.empty((COLUMNS, int(whole.sum())), np.int32)
    columns[0] = (labels | present << 1)[whole]
    columns[1:14] = numbers[whole].T
    columns[14:] = hashes[whole].view(np.int32).T
    for row in np.flatnonzero(~whole):
        field = int(np.argmin(good[row]))
        text = framed[starts[row, field] : ends[row, field]]
        bad.append((int(lines[row]), f"{NAMES[field]} is {_shown(text)}"))
    return Parsed(columns, tuple(sorted(bad)), block.count(b"\n"))


def _fields(framed: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """Per line of 40 columns where each field starts and ends (n, 40), its number, and the other lines."""
    text = np.frombuffer(framed, np.uint8)
    ends = np.flatnonzero((text == TAB) | (text == NEWLINE))
    last = np.flatnonzero(text[ends] == NEWLINE)
    counts = np.diff(last, prepend=-1)
    starts = np.empty_like(ends)
    starts[:1], starts[1:] = WIDTH, ends[:-1] + 1
    good = counts == COLUMNS
    if not good.all():
        inside = np.repeat(good, counts)
        starts, ends = starts[inside], ends[inside]
    bad = [
        (int(line), f"{counts[line]} columns instead of {COLUMNS}")
        for line in np.flatnonzero(~good)
    ]
    shape = (-1, COLUMNS)
    return starts.reshape(shape), ends.reshape(shape), np.flatnonzero(good), bad


def _labels(framed: bytes, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = np.frombuffer(framed, np.uint8)[starts].astype(np.int32) - ZERO
    return found, (ends - starts == 1) & ((found == 0) | (found == 1))


def _numbers(
    framed: bytes, words: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers int32 (n, 13), MISSING where a field is empty, and which of them are good."""
    negative = np.frombuffer(framed, np.uint8)[starts] == MINUS
    digits = ends - starts - negative
    empty = (digits == 0) & ~negative
    unused = ((WIDTH - np.clip(digits, 0, WIDTH)) * 8).astype(np.uint64)
    # A shift by all 64 bits means nothing; where no digit is there, neither does the word.
    unused[digits <= 0] = 0
    value, good = _decimal(words[ends - WIDTH], unused)
    found = np.where(negative, -value, value).astype(np.int32)
    found[empty] = MISSING
    good = empty | (good & (digits > 0) & (digits <= WIDTH))
    for row, field in zip(*np.nonzero(digits > WIDTH), strict=True):
        text = framed[starts[row, field] : ends[row, field]]
        if _is_long(text):
            found[row, field], good[row, field] = int(text), True
    return found, good


def _decimal(word: np.ndarray, unused: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number (int64) whose digits fill a word but for its first `unused` bits, and if they are digits."""
    zeros = np.uint64(0x3030303030303030)
    word = ((word >> unused) << unused) | (zeros & ((np.uint64(1) << unused) - np.uint64(1)))
    d = word - zeros
    over = (d + np.uint64(0x7676767676767676)) | d  # the top bit of a byte that is no digit
    good = over & np.uint64(0x8080808080808080) == 0
    d = (d * np.uint64(10) + (d >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    d = (d * np.uint64(100) + (d >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    d = (d * np.uint64(10000) + (d >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
    return d.astype(np.int64), good


def _is_long(text: bytes) -> bool:
    """Whether a field of more than 8 digits is a number that 32 bits hold."""
    digits = text.removeprefix(b"-")
    return len(digits) <= 10 and digits.isdigit() and -(2**31) < int(text) < 2**31


def _hashes(
    words: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Categories uint32 (n, 26), per line the bits of those that are there (n,), and which are good."""
    length, word = ends - starts, words[starts]
    letter = (word >> np.uint64(6)) & np.uint64(0x0101010101010101)
    nibble = (word & np.uint64(0x0F0F0F0F0F0F0F0F)) + letter * np.uint64(9)
    above_nine = ((nibble + np.uint64(0x0606060606060606)) >> np.uint64(4)) & np.uint64(
        0x0101010101010101
    )
    written = nibble + np.uint64(0x3030303030303030) + above_nine * np.uint64(0x27)
    good = (written == word) & (nibble & np.uint64(0x1010101010101010) == 0)
    there = length == WIDTH
    bits = (there.astype(np.int32) << np.arange(CATEGORIES, dtype=np.int32)).sum(1, dtype=np.int32)
    return np.where(there, _packed(nibble), 0), bits, (good & there) | (length == 0)


def _packed(nibble: np.ndarray) -> np.ndarray:
    """Eight nibbles, one in each byte of a word and the first in the lowest, as uint32."""
    low = np.uint64(0x00FF00FF00FF00FF)
    pair = ((nibble & low) << np.uint64(4)) | ((nibble >> np.uint64(8)) & low)
    byte = np.uint64(0xFF)
    value = (pair & byte) << np.uint64(24)
    for place, shift in ((16, 16), (32, 8), (48, 0)):
        value |= ((pair >> np.uint64(place)) & byte) << np.uint64(shift)
    return value.astype(np.uint32)


def _shown(text: bytes) -> str:
    words = text[:SHOWN].decode("ascii", "backslashreplace")
    return repr(words) + ("..." if len(text) > SHOWN else "")
