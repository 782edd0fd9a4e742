"""Records of several requests in one batch: as if one client had made it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.errors import InvalidArgument
from raftmq.records.batch import check_batch, decode_records, make_batch
from raftmq.records.loose import HEADER_BYTES, bind, loosen
from raftmq.v1 import types_pb2

RECORDS = st.lists(
    st.builds(
        types_pb2.Record,
        key=st.none() | st.binary(max_size=5),
        value=st.none() | st.binary(max_size=200),
        timestamp_ms=st.integers(0, 2**40),
        priority=st.integers(0, 9),
        headers=st.lists(st.builds(types_pb2.Header, name=st.just("n"), value=st.binary(max_size=3)), max_size=2),
    ),
    min_size=1,
    max_size=4,
)


@given(st.lists(RECORDS, min_size=1, max_size=5))
def test_bound_requests_are_the_batch_that_one_client_would_have_made(requests: list[list[types_pb2.Record]]) -> None:
    batch = bind([loosen(records) for records in requests])
    together = [record for records in requests for record in records]
    assert batch == check_batch(make_batch(together), max_batch_bytes=1 << 20)
    header = types_pb2.BatchHeader.FromString(batch.header_bytes)
    assert decode_records(header, batch.payload) == together
    assert len(batch.header_bytes) <= HEADER_BYTES


def test_the_largest_header_takes_no_more_than_is_allowed_for_it() -> None:
    header = types_pb2.BatchHeader(
        count=2**20,
        raw_size=2**32 - 1,
        crc32c=2**32 - 1,
        first_timestamp_ms=253_402_300_799_999,
        last_timestamp_ms=253_402_300_799_999,
        priority=9,
    )
    assert header.ByteSize() <= HEADER_BYTES


def test_a_record_that_breaks_a_limit_is_named() -> None:
    with pytest.raises(InvalidArgument) as refused:
        loosen([types_pb2.Record(), types_pb2.Record(priority=10)])
    assert refused.value.field == "records[1].priority"
