"""CRC32C, the checksum of TFRecord files, at the speed of array look-ups.

The register of a CRC is linear in the bytes: what a byte adds depends on its value and on how many bytes
come after it, and all additions are combined by exclusive or. So the bytes of a chunk are looked up at
once, by place and value; then the registers of chunks, byte by byte in the same manner; what is longer
than a span of chunks is done span by span. Zero bytes in front add nothing to a register of 0, and
starting at all ones is the same as inverting the first four bytes.
Sources: RFC 3720, section 12.1 (polynomial and test values); TensorFlow's record format (the mask).
"""

import functools

import numpy as np

POLYNOMIAL = 0x82F63B78  # bits reversed
CHUNK, CHUNKS = 256, 256  # bytes in a chunk, chunks in a span
ONES, MASK = 0xFFFFFFFF, 0xA282EAD8
SHORT = 64  # up to so many bytes a loop is faster


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of bytes: 32 bits."""
    if len(data) <= SHORT:
        return _looped(data)
    flat = np.frombuffer(data, np.uint8)
    size = -(-len(flat) // CHUNK) * CHUNK
    padded = np.zeros(size, np.uint8)
    padded[size - len(flat) :] = flat
    padded[size - len(flat) :][:4] ^= 0xFF
    return _spans(_chunks(padded)) ^ ONES


def masked(crc: int) -> int:
    """As TFRecord stores a checksum: rotated by 15 bits, with a constant added."""
    return (((crc >> 15) | (crc << 17)) + MASK) & ONES


def _looped(data: bytes | memoryview) -> int:
    table, register = _scalars(), ONES
    for byte in bytes(data):
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ ONES


def _chunks(padded: np.ndarray) -> np.ndarray:
    """The register of each chunk alone."""
    table, offsets = _by_place()
    places = padded.reshape(-1, CHUNK) + offsets
    return np.bitwise_xor.reduce(table.take(places), axis=1)


def _spans(registers: np.ndarray) -> int:
    """The register of all chunks, one after the other."""
    table, offsets = _by_chunk()
    size = -(-len(registers) // CHUNKS) * CHUNKS
    padded = np.zeros(size, "<u4")
    padded[size - len(registers) :] = registers
    found = table.take(padded.view(np.uint8).reshape(-1, 4 * CHUNKS) + offsets)
    register = 0
    for span in np.bitwise_xor.reduce(found, axis=1).tolist():
        register = _after_a_span(register) ^ span
    return register


def _after_a_span(register: int) -> int:
    """The register after a span of zeros."""
    first, second, third, fourth = _span()
    return (
        first[register & 0xFF]
        ^ second[(register >> 8) & 0xFF]
        ^ third[(register >> 16) & 0xFF]
        ^ fourth[register >> 24]
    )


def _advanced(registers: np.ndarray, count: int) -> np.ndarray:
    """Registers after `count` more bytes of 0."""
    table = _bytes()
    for _ in range(count):
        registers = table[registers & 0xFF] ^ (registers >> 8)
    return registers


@functools.cache
def _bytes() -> np.ndarray:
    """What a last byte makes of a register of 0: (256,) uint32."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


@functools.cache
def _scalars() -> list[int]:
    return _bytes().tolist()


@functools.cache
def _by_place() -> tuple[np.ndarray, np.ndarray]:
    """What a byte of a chunk adds, by place and value, flat; and where each place begins."""
    rows = [_bytes()]
    for _ in range(CHUNK - 1):
        rows.append(_advanced(rows[-1], 1))
    return np.concatenate(rows[::-1]), 256 * np.arange(CHUNK, dtype=np.intp)


@functools.cache
def _by_chunk() -> tuple[np.ndarray, np.ndarray]:
    """What each byte of a chunk's register adds, by place of the chunk, byte and value, flat."""
    rows = [np.concatenate([np.arange(256, dtype=np.uint32) << 8 * i for i in range(4)])]
    for _ in range(CHUNKS - 1):
        rows.append(_advanced(rows[-1], CHUNK))
    return np.concatenate(rows[::-1]), 256 * np.arange(4 * CHUNKS, dtype=np.intp)


@functools.cache
def _span() -> list[list[int]]:
    """What each byte of a register becomes over a span of zeros."""
    first = _by_chunk()[0][: 4 * 256]
    return _advanced(first, CHUNK).reshape(4, 256).tolist()
