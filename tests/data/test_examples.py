"""A tf.train.Example is read as protobuf's own runtime writes it."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from sparsity.data.examples import parsed

KINDS = {"bytes": 12, "float": 2, "int64": 3}  # of descriptor.proto


def schema():
    """The classes of example.proto and feature.proto, made from their descriptions."""
    file = descriptor_pb2.FileDescriptorProto(name="e.proto", package="t", syntax="proto3")

    def message(name, *fields, parent=None):
        made = (parent.nested_type if parent else file.message_type).add(name=name)
        for number, (field, kind, label) in enumerate(fields, 1):
            one = made.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                one.type, one.type_name = 11, kind
            else:
                one.type = kind
        return made

    for name, kind in KINDS.items():
        message(f"{name.title()}List", ("value", kind, 3))
    lists = [(f"{name}_list", f".t.{name.title()}List", 1) for name in KINDS]
    feature = message("Feature", *lists)
    feature.oneof_decl.add(name="kind")
    for one in feature.field:
        one.oneof_index = 0
    features = message("Features", ("feature", ".t.Features.FeatureEntry", 3))
    entry = message("FeatureEntry", ("key", 9, 1), ("value", ".t.Feature", 1), parent=features)
    entry.options.map_entry = True
    message("Example", ("features", ".t.Features", 1))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


Example = schema()
integers = st.integers(-(2**63), 2**63 - 1)
values = st.one_of(
    st.tuples(st.just("bytes"), st.lists(st.binary(max_size=300), min_size=1, max_size=3)),
    st.tuples(st.just("int64"), st.lists(integers, min_size=1, max_size=5)),
    st.tuples(st.just("float"), st.lists(st.floats(width=32, allow_nan=False), min_size=1)),
)


def serialised(features):
    example = Example()
    for name, (kind, entries) in features.items():
        getattr(example.features.feature[name], f"{kind}_list").value.extend(entries)
    return example.SerializeToString()


@given(st.dictionaries(st.text(max_size=9), values, max_size=4))
def test_features_come_back(features):
    found = parsed(serialised(features))
    assert found == {name: entries for name, (_, entries) in features.items()}


def test_integers_that_are_not_packed_come_back():
    # Feature { int64_list { value: 5 value: 300 } }, each value with a key of its own
    values = b"\x08\x05\x08\xac\x02"
    feature = b"\x1a" + bytes([len(values)]) + values
    entry = b"\x0a\x01k\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    assert parsed(b"\x0a" + bytes([len(features)]) + features) == {"k": [5, 300]}


def test_what_is_cut_short_is_refused_at_every_byte():
    whole = serialised({"image": ("bytes", [b"x" * 200]), "label": ("int64", [1000])})
    refused = 0
    for size in range(1, len(whole)):
        with pytest.raises(ValueError, match="cut short|does not end"):
            parsed(whole[:size])
        refused += 1
    assert refused == len(whole) - 1


@pytest.mark.parametrize("data", [b"\x0b\x00", b"\x08\x05", b"\xff" * 20])
def test_what_is_no_example_is_refused(data):
    with pytest.raises(ValueError, match="no message|found the number 5|does not end"):
        parsed(data)
