"""Batches: what is made can be checked and read back; what is wrong is refused with the field that is to blame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.errors import CorruptBatch, InvalidArgument, MessageTooLarge, RaftmqError, Unimplemented
from raftmq.records import batch as batches
from raftmq.records.batch import check_batch, decode_records, make_batch
from raftmq.records.entry import crc32c
from raftmq.v1 import types_pb2

MIB = 1024 * 1024
Edit = Callable[[types_pb2.RecordBatch], None]


def record(value: bytes = b"v", **fields: Any) -> types_pb2.Record:
    return types_pb2.Record(key=b"k", value=value, **fields)


def three_records() -> types_pb2.RecordBatch:
    records = [record(b"a", timestamp_ms=5), record(b""), record(b"c", timestamp_ms=3)]
    return make_batch(records, producer_id=7, producer_epoch=2, first_sequence=40)


def header_of(header_bytes: bytes) -> types_pb2.BatchHeader:
    return types_pb2.BatchHeader.FromString(header_bytes)


records_strategy = st.lists(
    st.builds(
        lambda key, value, headers, timestamp: types_pb2.Record(
            key=key,
            value=value,
            headers=[types_pb2.Header(name=name, value=content) for name, content in headers],
            timestamp_ms=timestamp,
        ),
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=200),
        st.lists(st.tuples(st.text(min_size=1, max_size=5), st.binary(max_size=9)), max_size=3),
        st.integers(0, batches.TIMESTAMP_MAX_MS),
    ),
    min_size=1,
    max_size=20,
)


@given(records_strategy)
def test_made_batches_pass_the_check_and_read_back(records: list[types_pb2.Record]) -> None:
    batch = make_batch(records)
    checked = check_batch(batch, max_batch_bytes=MIB)
    assert checked.payload == batch.records
    assert checked.count == len(records)
    assert checked.crc == crc32c(batch.records)
    assert header_of(checked.header_bytes) == batch.header
    assert decode_records(header_of(checked.header_bytes), checked.payload) == records


def test_the_header_that_is_made() -> None:
    batch = three_records()
    assert batch.header == types_pb2.BatchHeader(
        count=3,
        raw_size=len(batch.records),
        crc32c=crc32c(batch.records),
        producer_id=7,
        producer_epoch=2,
        first_sequence=40,
        first_timestamp_ms=5,
        last_timestamp_ms=3,
    )


def test_the_checked_batch() -> None:
    batch = three_records()
    checked = check_batch(batch, max_batch_bytes=MIB)
    assert (checked.producer_id, checked.producer_epoch, checked.first_sequence) == (7, 2, 40)
    assert checked.size == len(checked.header_bytes) + len(batch.records)


def test_an_absent_crc_is_computed_and_the_request_left_as_it_was() -> None:
    batch = three_records()
    with_crc = check_batch(batch, max_batch_bytes=MIB)
    batch.header.ClearField("crc32c")
    before = batch.SerializeToString()
    assert check_batch(batch, max_batch_bytes=MIB) == with_crc
    assert batch.SerializeToString() == before


def test_a_crc_of_zero_is_a_crc() -> None:
    batch = three_records()
    batch.header.crc32c = 0
    with pytest.raises(CorruptBatch) as caught:
        check_batch(batch, max_batch_bytes=MIB)
    assert caught.value.field == "batch.header.crc32c"


def test_absent_and_empty_stay_apart() -> None:
    batch = make_batch([types_pb2.Record(), types_pb2.Record(key=b"", value=b"")])
    absent, empty = decode_records(batch.header, batch.records)
    assert not absent.HasField("key")
    assert not absent.HasField("value")
    assert empty.HasField("key")
    assert empty.HasField("value")


def test_the_size_limit_covers_header_and_records() -> None:
    batch = three_records()
    size = check_batch(batch, max_batch_bytes=MIB).size
    assert check_batch(batch, max_batch_bytes=size).size == size
    with pytest.raises(MessageTooLarge) as caught:
        check_batch(batch, max_batch_bytes=size - 1)
    assert caught.value.field == "batch"


def put(**fields: int | str) -> Edit:
    def edit(batch: types_pb2.RecordBatch) -> None:
        for name, value in fields.items():
            setattr(batch.header, name, value)

    return edit


def payload(records: bytes) -> Edit:
    def edit(batch: types_pb2.RecordBatch) -> None:
        batch.records = records
        batch.header.raw_size = len(records)
        batch.header.ClearField("crc32c")

    return edit


BAD_UTF8_NAME = types_pb2.RecordSet(
    records=[types_pb2.Record(headers=[types_pb2.Header(name="~~")]), record(), record()]
).SerializeToString().replace(b"~~", b"\xc3\x28")  # fmt: skip


@pytest.mark.parametrize(
    ("edit", "error", "field"),
    [
        (put(count=0), InvalidArgument, "header.count"),
        (put(count=2**20 + 1), InvalidArgument, "header.count"),
        (put(count=2**32 - 1), InvalidArgument, "header.count"),
        (put(count=2), CorruptBatch, "header.count"),
        (put(count=4), CorruptBatch, "header.count"),
        (put(codec=77), InvalidArgument, "header.codec"),
        (put(raw_size=0), CorruptBatch, "header.raw_size"),
        (put(raw_size=1), CorruptBatch, "header.raw_size"),
        (put(codec=types_pb2.CODEC_ZSTD, raw_size=0), InvalidArgument, "header.raw_size"),
        (put(codec=types_pb2.CODEC_LZ4, raw_size=64 * MIB + 1), InvalidArgument, "header.raw_size"),
        (put(flags=1), Unimplemented, "header.flags"),
        (put(flags=2), Unimplemented, "header.flags"),
        (put(flags=4), InvalidArgument, "header.flags"),
        (put(flags=8), InvalidArgument, "header.flags"),
        (put(flags=2**31 + 1), InvalidArgument, "header.flags"),
        (put(message_id="m"), InvalidArgument, "header.message_id"),  # beside a producer id
        (put(message_id="☃" * 86), InvalidArgument, "header.message_id"),
        (put(producer_id=2**63), InvalidArgument, "header.producer_id"),
        (put(producer_epoch=2**31), InvalidArgument, "header.producer_epoch"),
        (put(first_sequence=2**63 - 3), InvalidArgument, "header.first_sequence"),
        (put(producer_id=0, first_sequence=0), InvalidArgument, "header.producer_epoch"),
        (put(producer_id=0, producer_epoch=0), InvalidArgument, "header.first_sequence"),
        (put(first_timestamp_ms=-1), InvalidArgument, "header.first_timestamp_ms"),
        (put(last_timestamp_ms=253_402_300_800_000), InvalidArgument, "header.last_timestamp_ms"),
        (put(crc32c=1), CorruptBatch, "header.crc32c"),
        (payload(b""), CorruptBatch, "header.count"),
        (payload(b"\xff"), CorruptBatch, "records"),
        (payload(b"\x0a\x01\xff" * 3), CorruptBatch, "records"),
        (payload(BAD_UTF8_NAME), CorruptBatch, "records"),
    ],
)
def test_bad_batches_are_refused_with_the_field(edit: Edit, error: type[RaftmqError], field: str) -> None:
    batch = three_records()
    edit(batch)
    with pytest.raises(error) as caught:
        check_batch(batch, max_batch_bytes=MIB, field="requests[2].batch")
    assert type(caught.value) is error
    assert caught.value.field == f"requests[2].batch.{field}"


def test_the_last_sequence_is_allowed() -> None:
    batch = three_records()
    batch.header.first_sequence = 2**63 - 4
    assert check_batch(batch, max_batch_bytes=MIB).first_sequence == 2**63 - 4


def test_compressed_records_are_not_taken_apart() -> None:
    """Their frame's header is looked at; that the rest is damaged is for readers to find out."""
    batch = make_batch([record(bytes(200))] * 100, codec=types_pb2.CODEC_ZSTD)
    batch.records = batch.records[:20]
    batch.header.ClearField("crc32c")
    checked = check_batch(batch, max_batch_bytes=MIB)
    assert (checked.count, checked.payload) == (100, batch.records)
    with pytest.raises(CorruptBatch, match="CODEC_ZSTD"):
        decode_records(header_of(checked.header_bytes), checked.payload)


@pytest.mark.parametrize("count", [2, 4])
def test_reading_a_batch_with_another_count_is_an_error(count: int) -> None:
    batch = three_records()
    batch.header.count = count
    with pytest.raises(CorruptBatch):
        decode_records(batch.header, batch.records)


def test_fields_of_a_later_version_are_kept_within_bounds() -> None:
    batch = three_records()
    later = types_pb2.BatchHeader.FromString(batch.header.SerializeToString() + b"\x9a\x06\x02xy")
    batch.header.CopyFrom(later)
    assert check_batch(batch, max_batch_bytes=MIB).header_bytes.endswith(b"\x9a\x06\x02xy")
    batch.header.CopyFrom(types_pb2.BatchHeader.FromString(b"\x9a\x06\x80\x08" + bytes(1024)))
    batch.header.MergeFrom(later)
    with pytest.raises(InvalidArgument) as caught:
        check_batch(batch, max_batch_bytes=MIB)
    assert caught.value.field == "batch.header"


def headers(*pairs: tuple[str, bytes]) -> types_pb2.Record:
    return types_pb2.Record(headers=[types_pb2.Header(name=name, value=value) for name, value in pairs])


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (record(timestamp_ms=-1), "timestamp_ms"),
        (record(timestamp_ms=253_402_300_800_000), "timestamp_ms"),
        (record(deliver_at_ms=-1), "deliver_at_ms"),
        (record(expires_at_ms=2**62), "expires_at_ms"),
        (record(priority=10), "priority"),
        (record(offset_delta=0), "offset_delta"),
        (headers(*[("n", b"")] * 257), "headers"),
        (headers(("n", b""), ("", b"")), "headers[1].name"),
        (headers(("é" * 129, b"")), "headers[0].name"),
        (headers(("n", bytes(65537))), "headers[0].value"),
    ],
)
def test_records_that_break_a_limit_are_refused_where_a_batch_is_made(bad: types_pb2.Record, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        make_batch([record(), bad])
    assert caught.value.field == f"records[1].{field}"


def test_records_at_their_limits_are_accepted() -> None:
    best = headers(*[("é" * 128, bytes(65536))] + [("n", b"")] * 255)
    best.priority = 9
    best.timestamp_ms = best.deliver_at_ms = best.expires_at_ms = batches.TIMESTAMP_MAX_MS
    assert make_batch([best]).header.count == 1


def test_an_empty_batch_cannot_be_made() -> None:
    with pytest.raises(InvalidArgument) as caught:
        make_batch([])
    assert caught.value.field == "records"
