"""Records written by hand are, byte for byte, what protobuf writes."""

from hypothesis import example, given
from hypothesis import strategies as st

from raftmq.records.batch import TIMESTAMP_MAX_MS
from raftmq.records.encoding import encode_record, varint
from raftmq.v1 import types_pb2

BYTES = st.none() | st.binary(max_size=300)


@given(BYTES, BYTES, st.integers(0, TIMESTAMP_MAX_MS))
@example(None, None, 0)
@example(b"", b"", 0)
@example(None, b"", TIMESTAMP_MAX_MS)
@example(None, bytes(127), 0)
@example(None, bytes(128), 0)
@example(b"k" * 128, bytes(20_000), 1)
def test_an_encoded_record_is_a_set_of_one(key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
    record = types_pb2.Record(key=key, value=value, timestamp_ms=timestamp_ms)
    expected = types_pb2.RecordSet(records=[record]).SerializeToString()
    assert encode_record(key, value, timestamp_ms) == expected


@given(st.integers(0, 2**63))
def test_varints(number: int) -> None:
    parsed = types_pb2.BatchHeader.FromString(b"\x28" + varint(number))
    assert parsed.producer_id == number
