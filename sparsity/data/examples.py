"""tf.train.Example, the record that TFDS writes, read without TensorFlow.

    Example { Features features = 1 }        Features { map<string, Feature> feature = 1 }
    Feature { BytesList = 1 | FloatList = 2 | Int64List = 3 }, each with a repeated value = 1

Source: tensorflow/core/example/example.proto and feature.proto.
"""

import struct

from sparsity.data.protobuf import fields, varint

Values = list[bytes] | list[int] | list[float]


def parsed(record: bytes) -> dict[str, Values]:
    """The features by name. Raises ValueError for bytes that are no Example."""
    found: dict[str, Values] = {}
    for features in _messages(memoryview(record), 1):
        for entry in _messages(features, 1):
            parts = dict(fields(entry))
            name, value = (_bytes(parts.get(key, memoryview(b""))) for key in (1, 2))
            found[str(name, "utf-8")] = _values(value)
    return found


def _values(feature: memoryview) -> Values:
    kinds = {1: _texts, 2: _floats, 3: _integers}
    for number, values in fields(feature):
        if number in kinds:
            return kinds[number](_bytes(values))
    return []


def _texts(values: memoryview) -> list[bytes]:
    return [bytes(value) for value in _messages(values, 1)]


def _integers(values: memoryview) -> list[int]:
    """Packed or one by one."""
    found: list[int] = []
    for _, value in fields(values):
        if isinstance(value, int):
            found.append(_signed(value))
            continue
        at = 0
        while at < len(value):
            one, at = varint(value, at)
            found.append(_signed(one))
    return found


def _floats(values: memoryview) -> list[float]:
    """Packed or one by one: both are runs of four bytes."""
    return [one for run in _messages(values, 1) for (one,) in struct.iter_unpack("<f", run)]


def _messages(message: memoryview, wanted: int) -> list[memoryview]:
    return [_bytes(value) for number, value in fields(message) if number == wanted]


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        # Of what is no Example, not of a wrong call.
        raise ValueError(f"expected bytes in a tf.train.Example, found the number {value}")  # noqa: TRY004
    return value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
