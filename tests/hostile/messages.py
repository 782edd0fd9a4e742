"""Requests made from descriptors: every field of the right type, and of any value, the interesting ones above all."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from raftmq.records.batch import make_batch
from raftmq.v1 import types_pb2
from tests.hostile.node import EXCHANGE, METHODS, SPARE, TOPIC

DEPTH_MAX = 5
LIST_MAX = 3

_BITS = {
    FieldDescriptor.TYPE_INT32: 31, FieldDescriptor.TYPE_SINT32: 31, FieldDescriptor.TYPE_SFIXED32: 31,
    FieldDescriptor.TYPE_INT64: 63, FieldDescriptor.TYPE_SINT64: 63, FieldDescriptor.TYPE_SFIXED64: 63,
    FieldDescriptor.TYPE_UINT32: 32, FieldDescriptor.TYPE_FIXED32: 32,
    FieldDescriptor.TYPE_UINT64: 64, FieldDescriptor.TYPE_FIXED64: 64,
}  # fmt: skip
"""Of the largest number; one more for the sign where that is odd."""

NAMES = st.sampled_from(
    [TOPIC, EXCHANGE, SPARE, "", "t", "nope", "__x", "a\0b", "a\nb", "..", "a/b", "e\u0301", "\u202ex", "x" * 300, "1"]
)
BATCHES = [
    make_batch([types_pb2.Record(value=b"v")]),
    make_batch([types_pb2.Record(key=b"k")] * 3, producer_id=1),
    make_batch([types_pb2.Record(value=bytes(10_000))], codec=types_pb2.CODEC_ZSTD),
    make_batch([types_pb2.Record(value=bytes(10_000))], codec=types_pb2.CODEC_LZ4),
]


@cache
def requests(method: str) -> st.SearchStrategy[Any]:
    """Requests of a method."""
    return messages(METHODS[method].input_type, DEPTH_MAX)


def messages(descriptor: Descriptor, depth: int) -> st.SearchStrategy[Any]:
    """Messages of a kind, with any of their fields set."""
    if descriptor.full_name == "raftmq.v1.RecordBatch":
        return st.one_of(
            st.sampled_from(BATCHES), st.builds(_dented, st.sampled_from(BATCHES), _any(descriptor, depth))
        )
    return _any(descriptor, depth)


def _any(descriptor: Descriptor, depth: int) -> st.SearchStrategy[Any]:
    kind: Any = GetMessageClass(descriptor)
    fields = {field.name: _field(field, depth) for field in descriptor.fields if depth or field.message_type is None}
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: kind(**values))


def _dented(batch: types_pb2.RecordBatch, other: types_pb2.RecordBatch) -> types_pb2.RecordBatch:
    """A good batch, with some of its header from somewhere else."""
    made = types_pb2.RecordBatch()
    made.CopyFrom(batch)
    made.header.MergeFrom(other.header)
    return made


def _field(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return st.just({})
    one = _value(field, depth)
    return st.lists(one, max_size=LIST_MAX) if field.is_repeated else one


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth - 1)
    if field.name == "partitions" and not field.is_repeated:
        return st.sampled_from([0, 1, 2, 10**6, 2**32 - 1])  # thousands would be a valid wish
    if field.type in _BITS:
        top = 2 ** _BITS[field.type]
        low = -top if _BITS[field.type] % 2 else 0
        return st.one_of(
            st.integers(max(low, -2), 10), st.sampled_from([low, top // 2, top - 1]), st.integers(low, top - 1)
        )
    if field.type == FieldDescriptor.TYPE_ENUM:
        return st.one_of(st.integers(0, 5), st.sampled_from([-1, 2**31 - 1]))
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.one_of(NAMES, st.text(max_size=20))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.one_of(st.binary(max_size=100), st.just(bytes(2_000)))
    assert field.type == FieldDescriptor.TYPE_BOOL, field.full_name
    return st.booleans()


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with a byte changed, removed or put in; or cut."""
    if not data:
        return draw(st.binary(max_size=10))
    at = draw(st.integers(0, len(data) - 1))
    return draw(
        st.sampled_from([
            data[:at] + bytes([data[at] ^ 1 << (at % 8)]) + data[at + 1 :],
            data[:at] + data[at + 1 :],
            data[:at] + b"\xff" + data[at:],
            data[:at],
        ])
    )  # fmt: skip
