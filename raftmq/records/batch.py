"""Batches of records: made by clients, checked by the broker, taken apart by consumers.

A batch is a header message beside ``bytes records``, a serialised ``RecordSet`` that may be compressed. The CRC covers
exactly those bytes. On its way to the log the broker reads the header and checks the CRC; what lies in the log is
``CheckedBatch.header_bytes`` (always with a CRC) and ``CheckedBatch.payload``, byte for byte what the client sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from raftmq.errors import CorruptBatch, InvalidArgument, MessageTooLarge, Unimplemented
from raftmq.ids import ProducerId
from raftmq.records.compression import RAW_SIZE_MAX as RAW_SIZE_MAX
from raftmq.records.compression import check_frame, compress, inflate
from raftmq.records.entry import crc32c
from raftmq.v1 import types_pb2

BATCH_VERSION = 1
"""Version of the batch format in a DATA entry's header."""
VERDICTS_VERSION = 2
"""Of a batch that is one entry with verdicts of queue groups: they follow its header, as a field of their own."""
_VERDICTS_TAG = b"\xa2\x06"
"""Of field 100, with a length."""

FLAG_TRANSACTIONAL = 1
FLAG_CONTROL = 2
FLAG_SPARSE = 4
_FLAGS_KNOWN = FLAG_TRANSACTIONAL | FLAG_CONTROL | FLAG_SPARSE

COUNT_MAX = 2**20
"""Most records in a batch."""
HEADER_BYTES_MAX = 1024
"""Largest serialised BatchHeader: it lies in every scan of the log."""
MESSAGE_ID_BYTES_MAX = 256
"""Longest message id in UTF-8: the log and every replica's memory hold it."""
RECORD_BYTES_MIN = 2
"""An empty record in a RecordSet: its tag and its length."""

PRODUCER_ID_MAX = 2**63 - 1
PRODUCER_EPOCH_MAX = 2**31 - 1
SEQUENCE_MAX = 2**63 - 1

TIMESTAMP_MAX_MS = 253_402_300_799_999
"""End of the year 9999 in milliseconds since the Unix epoch: the last moment that most languages can express."""

RECORD_HEADERS_MAX = 256
"""Most headers on a record."""
HEADER_NAME_BYTES_MAX = 256
HEADER_VALUE_BYTES_MAX = 64 * 1024
PRIORITY_MAX = 9


@dataclass(frozen=True, slots=True)
class CheckedBatch:
    """A batch that may go into the log: every number in range, the CRC right."""

    header_bytes: bytes
    """Serialised ``BatchHeader``, with the CRC set."""
    payload: bytes
    """``RecordBatch.records`` as it came."""
    count: int
    crc: int
    """CRC-32C of `payload`."""
    producer_id: ProducerId
    """0: not idempotent."""
    producer_epoch: int
    first_sequence: int
    message_id: str = ""
    """Empty: none."""
    priority: int = 0
    """The highest of its records', as its header says."""

    @property
    def size(self) -> int:
        """Bytes that it takes: header and payload."""
        return len(self.header_bytes) + len(self.payload)


def make_batch(
    records: Sequence[types_pb2.Record],
    *,
    producer_id: int = 0,
    producer_epoch: int = 0,
    first_sequence: int = 0,
    message_id: str = "",
    codec: types_pb2.Codec.ValueType = types_pb2.CODEC_UNSPECIFIED,
    field: str = "records",
) -> types_pb2.RecordBatch:
    """A batch of `records`, with its CRC; compressed with `codec` unless that would make it larger.

    Raises InvalidArgument naming the record under `field` (``records[3].priority``) where one breaks a limit.
    """
    if not 1 <= len(records) <= COUNT_MAX:
        raise InvalidArgument(f"a batch has 1 to {COUNT_MAX} records, not {len(records)}", field=field)
    check_records(records, field)
    raw = types_pb2.RecordSet(records=records).SerializeToString()
    header = types_pb2.BatchHeader(
        count=len(records),
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        first_sequence=first_sequence,
        first_timestamp_ms=records[0].timestamp_ms,
        last_timestamp_ms=records[-1].timestamp_ms,
        message_id=message_id,
        priority=max(record.priority for record in records),
    )
    return seal_batch(header, raw, codec)


def seal_batch(
    header: types_pb2.BatchHeader, raw: bytes, codec: types_pb2.Codec.ValueType = types_pb2.CODEC_UNSPECIFIED
) -> types_pb2.RecordBatch:
    """A batch of the records in `raw`, a serialised ``RecordSet``; compressed with `codec` unless that would make it
    larger. `header` gets what follows from it; the rest of it is the caller's."""
    payload = raw
    if codec != types_pb2.CODEC_UNSPECIFIED:
        compressed = compress(codec, raw)
        payload, codec = (compressed, codec) if len(compressed) < len(raw) else (raw, types_pb2.CODEC_UNSPECIFIED)
    header.codec, header.raw_size, header.crc32c = codec, len(raw), crc32c(payload)
    return types_pb2.RecordBatch(header=header, records=payload)


def decode_records(header: types_pb2.BatchHeader, payload: bytes) -> list[types_pb2.Record]:
    """The records of a batch, in order. Inflates no more than the header declares, and no more than RAW_SIZE_MAX.

    Raises Unimplemented for a codec that this version cannot undo, CorruptBatch where `payload` is not what `header`
    says. The CRC is the caller's to check: whoever moved the bytes last knows whether it has been done.
    """
    if header.codec != types_pb2.CODEC_UNSPECIFIED:
        payload = inflate(header.codec, payload, header.raw_size)
    records = _parse(payload, "batch")
    if len(records) != header.count:
        raise CorruptBatch(f"the header says {header.count} records, there are {len(records)}")
    return list(records)


def check_batch(batch: types_pb2.RecordBatch, *, max_batch_bytes: int, field: str = "batch") -> CheckedBatch:
    """What goes into the log for `batch`.

    `max_batch_bytes` bounds header and payload together. Raises InvalidArgument, CorruptBatch or MessageTooLarge, with
    the path of the offending field under `field`, and Unimplemented for what later versions may accept.
    """
    header, payload = batch.header, batch.records
    path = f"{field}.header"
    size = len(payload) + header.ByteSize()
    if size > max_batch_bytes:
        raise MessageTooLarge(f"the batch has {size} bytes, at most {max_batch_bytes}", field=field)
    _in_range(header.count, 1, COUNT_MAX, f"{path}.count")
    _check_flags(header, path)
    _check_producer(header, path)
    if header.message_id:
        check_message_id(header.message_id, f"{path}.message_id")
        if header.producer_id:
            raise InvalidArgument("a producer with an id counts sequences instead", field=f"{path}.message_id")
    _in_range(header.priority, 0, PRIORITY_MAX, f"{path}.priority")
    for name in ("first_timestamp_ms", "last_timestamp_ms"):
        _in_range(getattr(header, name), 0, TIMESTAMP_MAX_MS, f"{path}.{name}")
    _check_content(header, payload, field)
    crc = crc32c(payload)
    if header.HasField("crc32c") and header.crc32c != crc:
        raise CorruptBatch(f"the records have CRC-32C {crc:#010x}, not {header.crc32c:#010x}", field=f"{path}.crc32c")
    return CheckedBatch(
        _stored_header(header, crc, path),
        payload,
        header.count,
        crc,
        ProducerId(header.producer_id),
        header.producer_epoch,
        header.first_sequence,
        header.message_id,
        header.priority,
    )


def check_message_id(message_id: str, field: str) -> None:
    """Raises InvalidArgument where `message_id`, which is not empty, is too long."""
    size = len(message_id.encode())
    if size > MESSAGE_ID_BYTES_MAX:
        raise InvalidArgument(f"a message id has at most {MESSAGE_ID_BYTES_MAX} bytes, not {size}", field=field)


def check_records(records: Sequence[types_pb2.Record], field: str = "records") -> None:
    """Raises InvalidArgument naming the record under `field` (``records[3].priority``) where one breaks a limit."""
    for position, record in enumerate(records):
        _check_record(record, field, position)


def _check_record(record: types_pb2.Record, field: str, position: int) -> None:
    """Raise InvalidArgument where `record` breaks a limit. One expression decides for the records that break none."""
    if (
        0 <= record.timestamp_ms <= TIMESTAMP_MAX_MS
        and 0 <= record.deliver_at_ms <= TIMESTAMP_MAX_MS
        and 0 <= record.expires_at_ms <= TIMESTAMP_MAX_MS
        and record.priority <= PRIORITY_MAX
        and not record.HasField("offset_delta")
        and not record.headers
    ):
        return
    path = f"{field}[{position}]"
    for name in ("timestamp_ms", "deliver_at_ms", "expires_at_ms"):
        _in_range(getattr(record, name), 0, TIMESTAMP_MAX_MS, f"{path}.{name}")
    _in_range(record.priority, 0, PRIORITY_MAX, f"{path}.priority")
    if record.HasField("offset_delta"):
        raise InvalidArgument("offsets are given by the log", field=f"{path}.offset_delta")
    _check_record_headers(record, f"{path}.headers")


def _check_record_headers(record: types_pb2.Record, field: str) -> None:
    if len(record.headers) > RECORD_HEADERS_MAX:
        raise InvalidArgument(f"{len(record.headers)} headers, at most {RECORD_HEADERS_MAX}", field=field)
    for position, header in enumerate(record.headers):
        name_bytes = len(header.name.encode())
        if not 1 <= name_bytes <= HEADER_NAME_BYTES_MAX:
            raise InvalidArgument(
                f"a header's name has 1 to {HEADER_NAME_BYTES_MAX} bytes, not {name_bytes}",
                field=f"{field}[{position}].name",
            )
        if len(header.value) > HEADER_VALUE_BYTES_MAX:
            raise InvalidArgument(
                f"a header's value has at most {HEADER_VALUE_BYTES_MAX} bytes, not {len(header.value)}",
                field=f"{field}[{position}].value",
            )


def _check_flags(header: types_pb2.BatchHeader, path: str) -> None:
    if header.flags & ~_FLAGS_KNOWN:
        raise InvalidArgument(f"flags {header.flags:#x} has bits that mean nothing here", field=f"{path}.flags")
    if header.flags & (FLAG_TRANSACTIONAL | FLAG_CONTROL):
        raise Unimplemented("this version has no transactions", field=f"{path}.flags")
    if header.flags & FLAG_SPARSE:
        raise InvalidArgument("only the broker makes sparse batches", field=f"{path}.flags")


def _check_producer(header: types_pb2.BatchHeader, path: str) -> None:
    _in_range(header.producer_id, 0, PRODUCER_ID_MAX, f"{path}.producer_id")
    _in_range(header.producer_epoch, 0, PRODUCER_EPOCH_MAX, f"{path}.producer_epoch")
    # The sequence after the batch must be expressible too.
    _in_range(header.first_sequence, 0, SEQUENCE_MAX - header.count, f"{path}.first_sequence")
    if header.producer_id == 0:
        for name in ("producer_epoch", "first_sequence"):
            if getattr(header, name):
                raise InvalidArgument("means nothing without a producer id", field=f"{path}.{name}")


def _check_content(header: types_pb2.BatchHeader, payload: bytes, field: str) -> None:
    """Size, and for an uncompressed batch the number of records. Of a compressed one, what its frame's header tells:
    nothing is inflated on the way to the log, so whether the rest is whole is for consumers to find out.

    The records are parsed by the C library (``len`` of a repeated field builds no Python object per record) and thrown
    away. A walk over the outer tags in Python took four times as long, and would let through records that no consumer
    can parse: one of them in the log would stop every reader of the partition.
    """
    if header.codec != types_pb2.CODEC_UNSPECIFIED:
        check_frame(header.codec, payload, header.raw_size, field)
        if header.raw_size < header.count * RECORD_BYTES_MIN:
            raise CorruptBatch(
                f"{header.count} records do not fit {header.raw_size} bytes", field=f"{field}.header.count"
            )
        return
    if header.raw_size != len(payload):
        raise CorruptBatch(
            f"the header says {header.raw_size} bytes, there are {len(payload)}", field=f"{field}.header.raw_size"
        )
    count = len(_parse(payload, field))
    if count != header.count:
        raise CorruptBatch(f"the header says {header.count} records, there are {count}", field=f"{field}.header.count")


def _parse(payload: bytes, field: str) -> Sequence[types_pb2.Record]:
    try:
        return types_pb2.RecordSet.FromString(payload).records
    except DecodeError:
        raise CorruptBatch("the bytes are not a RecordSet", field=f"{field}.records") from None


def merge_header(stored: bytes, into: types_pb2.BatchHeader) -> None:
    """Read the header of a stored batch, as its readers may see it: without verdicts that are one entry with it."""
    into.MergeFromString(stored)
    if _VERDICTS_TAG in stored:
        into.DiscardUnknownFields()


def _stored_header(header: types_pb2.BatchHeader, crc: int, path: str) -> bytes:
    if not header.HasField("crc32c"):
        stored = types_pb2.BatchHeader()
        stored.CopyFrom(header)
        stored.crc32c = crc
        header = stored
    header_bytes = header.SerializeToString()
    # Fields of a later version are kept for those who understand them, but may not bloat the log's headers.
    if len(header_bytes) > HEADER_BYTES_MAX:
        raise InvalidArgument(f"the header has {len(header_bytes)} bytes, at most {HEADER_BYTES_MAX}", field=path)
    return header_bytes


def _in_range(value: int, low: int, high: int, field: str) -> None:
    if not low <= value <= high:
        raise InvalidArgument(f"{value} is not in {low} to {high}", field=field)
