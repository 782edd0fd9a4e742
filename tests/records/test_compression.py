"""Compressed batches: read back as they were, and nothing inflates beyond what was declared."""

from __future__ import annotations

import subprocess
import sys

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from raftmq.errors import CorruptBatch, InvalidArgument, RaftmqError, Unimplemented
from raftmq.records.batch import check_batch, decode_records, make_batch
from raftmq.records.compression import RAW_SIZE_MAX, check_frame, compress, inflate
from raftmq.v1 import types_pb2

MIB = 1024 * 1024
ZSTD, LZ4 = types_pb2.CODEC_ZSTD, types_pb2.CODEC_LZ4
CODECS = pytest.mark.parametrize("codec", [ZSTD, LZ4])


def silent_frame(codec: types_pb2.Codec.ValueType, raw: bytes) -> bytes:
    """A frame that does not say how large its content is, as streaming compressors write it."""
    if codec == ZSTD:
        stream = zstandard.ZstdCompressor().compressobj()
        return stream.compress(raw) + stream.flush()
    return bytes(lz4.frame.compress(raw, store_size=False))


def many_records(count: int = 500) -> list[types_pb2.Record]:
    return [
        types_pb2.Record(key=b"key %d" % (n % 7), value=b"a value much like the others, %d" % n) for n in range(count)
    ]


@CODECS
def test_a_compressed_batch_passes_the_check_and_reads_back(codec: types_pb2.Codec.ValueType) -> None:
    records = many_records()
    plain, batch = make_batch(records), make_batch(records, codec=codec)
    assert len(batch.records) < len(plain.records) / 3
    assert (batch.header.codec, batch.header.raw_size, batch.header.count) == (codec, len(plain.records), 500)
    checked = check_batch(batch, max_batch_bytes=MIB)
    assert checked.payload == batch.records
    assert decode_records(types_pb2.BatchHeader.FromString(checked.header_bytes), checked.payload) == records


@CODECS
def test_what_does_not_compress_goes_as_it_is(codec: types_pb2.Codec.ValueType) -> None:
    records = [types_pb2.Record(value=b"x")]
    assert make_batch(records, codec=codec) == make_batch(records)


@CODECS
@given(raw=st.binary(min_size=1, max_size=5000) | st.integers(1, 300_000).map(bytes), silent=st.booleans())
def test_inflating_undoes_compressing(codec: types_pb2.Codec.ValueType, raw: bytes, silent: bool) -> None:
    payload = silent_frame(codec, raw) if silent else compress(codec, raw)
    assert inflate(codec, payload, len(raw)) == raw


@CODECS
@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("wrong", [-1, 1])
def test_another_size_than_declared_is_an_error(codec: types_pb2.Codec.ValueType, silent: bool, wrong: int) -> None:
    raw = b"some text, some text, some text" * 50
    payload = silent_frame(codec, raw) if silent else compress(codec, raw)
    with pytest.raises(CorruptBatch):
        inflate(codec, payload, len(raw) + wrong)


@CODECS
@pytest.mark.parametrize("silent", [False, True])
def test_a_frame_must_be_whole_and_alone(codec: types_pb2.Codec.ValueType, silent: bool) -> None:
    raw = bytes(range(256)) * 40
    payload = silent_frame(codec, raw) if silent else compress(codec, raw)
    damaged = [payload[:cut] for cut in (0, 1, 5, 12, len(payload) // 2, len(payload) - 1)]
    damaged += [payload + b"x", payload + payload, b"x" + payload, b"\x50\x2a\x4d\x18\x01\x00\x00\x00x" + payload]
    for bad in damaged:
        with pytest.raises(CorruptBatch):
            inflate(codec, bad, len(raw))


@CODECS
@given(data=st.data())
def test_damaged_frames_raise_nothing_but_corrupt_batch(codec: types_pb2.Codec.ValueType, data: st.DataObject) -> None:
    raw = b"the same and the same and something else" * 20
    payload = bytearray(compress(codec, raw))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        told = inflate(codec, bytes(payload), len(raw))
    except CorruptBatch:
        return
    assert len(told) == len(raw)


def refused(codec: int, payload: bytes, raw_size: int) -> RaftmqError:
    batch = types_pb2.RecordBatch(records=payload)
    batch.header.count, batch.header.raw_size = 1, raw_size
    batch.header.codec = codec  # type: ignore[assignment]
    with pytest.raises(RaftmqError) as caught:
        check_batch(batch, max_batch_bytes=MIB)
    return caught.value


@CODECS
def test_the_broker_refuses_what_the_frame_itself_gives_away(codec: types_pb2.Codec.ValueType) -> None:
    frame = compress(codec, bytes(1000))
    other = compress(LZ4 if codec == ZSTD else ZSTD, bytes(1000))
    for payload, raw_size, kind, field in [
        (frame, 999, CorruptBatch, "batch.header.raw_size"),
        (frame, 1001, CorruptBatch, "batch.header.raw_size"),
        (frame, 0, InvalidArgument, "batch.header.raw_size"),
        (frame, RAW_SIZE_MAX + 1, InvalidArgument, "batch.header.raw_size"),
        (frame, 2**32 - 1, InvalidArgument, "batch.header.raw_size"),
        (other, 1000, CorruptBatch, "batch.records"),
        (frame[:3], 1000, CorruptBatch, "batch.records"),
        (b"", 1000, CorruptBatch, "batch.records"),
    ]:
        error = refused(codec, payload, raw_size)
        assert (type(error), error.field) == (kind, field)


def test_the_broker_refuses_frames_that_readers_could_not_afford_to_begin() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    error = refused(ZSTD, stream.compress(bytes(1000)) + stream.flush(), 1000)
    assert (type(error), error.field) == (CorruptBatch, "batch.records")
    assert "window" in error.message


def test_the_broker_refuses_frames_that_need_a_dictionary() -> None:
    dictionary = zstandard.train_dictionary(1024, [b"sample %d " % n * 20 for n in range(200)])
    frame = zstandard.ZstdCompressor(dict_data=dictionary).compress(b"sample 7 " * 9)
    error = refused(ZSTD, frame, 81)
    assert (type(error), error.field) == (CorruptBatch, "batch.records")


@CODECS
def test_more_records_than_fit_are_refused(codec: types_pb2.Codec.ValueType) -> None:
    batch = make_batch([types_pb2.Record()] * 500, codec=codec)
    assert batch.header.codec == codec
    assert check_batch(batch, max_batch_bytes=MIB).count == 500
    batch.header.count = 501
    with pytest.raises(CorruptBatch) as caught:
        check_batch(batch, max_batch_bytes=MIB)
    assert caught.value.field == "batch.header.count"


def test_an_unknown_codec_is_refused_by_the_broker_and_told_by_the_reader() -> None:
    with pytest.raises(InvalidArgument, match="codec 77"):
        check_frame(77, b"x", 1, "batch")
    with pytest.raises(Unimplemented, match="codec 77"):
        inflate(77, b"x", 1)


BOMB = """
import resource, sys
import lz4.frame, zstandard
from raftmq.errors import CorruptBatch
from raftmq.records.batch import check_batch, decode_records
from raftmq.v1 import types_pb2

codec, silent = int(sys.argv[1]), sys.argv[2] == "silent"
if codec == types_pb2.CODEC_ZSTD:
    stream = zstandard.ZstdCompressor().compressobj(size=-1 if silent else 1 << 30)
    frame = b"".join([stream.compress(bytes(1 << 20)) for _ in range(1024)]) + stream.flush()
else:
    stream = lz4.frame.LZ4FrameCompressor(block_size=lz4.frame.BLOCKSIZE_MAX4MB)
    frame = stream.begin(0 if silent else 1 << 30)
    frame += b"".join([stream.compress(bytes(1 << 20)) for _ in range(1024)]) + stream.flush()
header = types_pb2.BatchHeader(count=1, codec=codec, raw_size=int(sys.argv[3]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    checked = check_batch(types_pb2.RecordBatch(header=header, records=frame), max_batch_bytes=len(frame) + 1024)
    decode_records(types_pb2.BatchHeader.FromString(checked.header_bytes), checked.payload)
except CorruptBatch as error:
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(len(frame), grown // 1024, error.field)
"""


@CODECS
@pytest.mark.parametrize(
    ("silent", "raw_size", "most"),
    [
        # The frame admits to a gigabyte: refused by its header.
        ("says so", 4096, 1),
        ("says so", RAW_SIZE_MAX, 1),
        # It says nothing: inflating stops at what the batch declares.
        ("silent", 4096, 32),
        ("silent", RAW_SIZE_MAX, RAW_SIZE_MAX // MIB * 2 + 32),
    ],
)
def test_a_gigabyte_of_zeros_is_never_inflated(
    codec: types_pb2.Codec.ValueType, silent: str, raw_size: int, most: int
) -> None:
    """In a process of its own, whose peak of memory is its own."""
    ended = subprocess.run(
        [sys.executable, "-c", BOMB, str(codec), silent, str(raw_size)], capture_output=True, text=True, check=True
    )
    frame, grown, _field = ended.stdout.split()
    assert int(frame) < 5 * MIB
    assert int(grown) <= most, "MiB"
