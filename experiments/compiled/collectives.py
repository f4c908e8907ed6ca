"""What a compiled program exchanges between devices, read from its text."""

import collections
import math
import re
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# name = type opcode(operands): of a start of an asynchronous one the work is counted, of its end nothing.
_OPERATION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\(([^)]*)\)", re.MULTILINE)
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.-]+)")
_BITS = re.compile(r"\d+")


class Exchange(NamedTuple):
    """The collectives of one kind and one dtype in a program.

    bytes: of the arrays that are summed, gathered or scattered, each as a whole, per device and call of the
    program. count: operations; the compiler puts many arrays into one.
    """

    kind: str
    dtype: str
    bytes: int
    count: int


def exchanges(text: str) -> list[Exchange]:
    """Those of a program's text, as `compiled.as_text()` gives it; one in a loop counts once."""
    types = {name: kind for name, kind, *_ in _OPERATION.findall(text)}
    sizes: collections.Counter = collections.Counter()
    counts: collections.Counter = collections.Counter()
    for _, result, opcode, operands in _OPERATION.findall(text):
        kind = opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        given = _sizes(" ".join(types.get(name, "") for name in _NAME.findall(operands)))
        # A start's result may hold what was given beside what comes of it.
        made = _sizes(result)
        if opcode != kind and kind != "all-reduce":
            made = made - given
        whole = {dtype: max(given[dtype], made[dtype]) for dtype in given | made}
        sizes.update({(kind, dtype): size for dtype, size in whole.items()})
        counts.update((kind, dtype) for dtype in whole)
    return [
        Exchange(kind, dtype, sizes[kind, dtype], counts[kind, dtype])
        for kind, dtype in sorted(sizes)
    ]


def _sizes(types: str) -> collections.Counter:
    """Bytes by dtype of the arrays in types as the text writes them."""
    found: collections.Counter = collections.Counter()
    for dtype, shape in _ARRAY.findall(types):
        numbers = math.prod(int(side) for side in shape.split(",") if side)
        found[dtype] += numbers * _bits(dtype) // 8
    return found


def _bits(dtype: str) -> int:
    """ "f32" has 32, "bf16" 16, "pred" 8."""
    number = _BITS.search(dtype)
    return int(number[0]) if number else 8
