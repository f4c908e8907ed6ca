"""The wire format of protocol buffers: the fields of one message, in the order in which they lie.

Only what messages are made of: no schema, no nesting. Groups, which nothing here uses, are refused.
Source: the Protocol Buffers documentation, "Encoding".
"""

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FIXED = {FIXED64: 8, FIXED32: 4}
LONGEST = 10  # bytes of a varint


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field: an integer for a varint, else the bytes, uncopied.

    Raises ValueError, where the message is cut short or is none.
    """
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = varint(message, at)
        else:
            size, at = varint(message, at) if kind == BYTES else (FIXED.get(kind, -1), at)
            if size < 0:
                raise ValueError(f"no message: a field of kind {kind} before byte {at}")
            value, at = message[at : at + size], at + size
        if at > len(message):
            raise ValueError(f"a message of {len(message)} bytes is cut short: field {number}")
        yield number, value


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer of 64 bits that begins at a byte, and where it ends.

    Raises ValueError for one that does not end.
    """
    value, start = 0, at
    for byte in message[at : at + LONGEST]:
        value |= (byte & 0x7F) << 7 * (at - start)
        at += 1
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError(f"a number that begins at byte {start} of {len(message)} does not end")
