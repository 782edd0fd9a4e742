"""Compression of a batch's records: one zstd frame (RFC 8878) or one lz4 frame, nothing before it and nothing after.

A few kilobytes can inflate to gigabytes, so nothing is inflated on trust. The batch's header declares the size; that
number is held against the limits and against what the frame says of itself first (``check_frame``, which looks at a few
bytes), and inflating then stops as soon as there is more than was declared.
"""

from __future__ import annotations

import lz4.frame
import zstandard

from raftmq.errors import CorruptBatch, InvalidArgument, Unimplemented
from raftmq.v1 import types_pb2

RAW_SIZE_MAX = 64 * 1024 * 1024
"""Largest RecordSet in bytes before compression: what a consumer must be ready to hold."""

_ZSTD_LEVEL = 3
_ZSTD_SIZE_UNKNOWN = (zstandard.CONTENTSIZE_UNKNOWN, 2**64 - 1)
_KNOWN = (types_pb2.CODEC_ZSTD, types_pb2.CODEC_LZ4)


def codec_name(codec: int) -> str:
    """For messages."""
    return types_pb2.Codec.Name(codec) if codec in types_pb2.Codec.values() else f"codec {codec}"  # type: ignore[arg-type]


def compress(codec: types_pb2.Codec.ValueType, raw: bytes) -> bytes:
    """One frame that holds `raw` and says so in its header."""
    if codec == types_pb2.CODEC_ZSTD:
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(raw)
    assert codec == types_pb2.CODEC_LZ4, f"{codec_name(codec)} is not for compressing"
    return bytes(lz4.frame.compress(raw, store_size=True))


def check_frame(codec: int, payload: bytes, raw_size: int, field: str) -> None:
    """Everything that can be known of a compressed `payload` without inflating it; costs the same for any size.

    Raises InvalidArgument (a codec or a size that nobody takes) and CorruptBatch, with their paths under `field`, the
    path of the batch.
    """
    if codec not in _KNOWN:
        raise InvalidArgument(f"{codec_name(codec)} is not known here", field=f"{field}.header.codec")
    if not 1 <= raw_size <= RAW_SIZE_MAX:
        raise InvalidArgument(f"{raw_size} is not in 1 to {RAW_SIZE_MAX}", field=f"{field}.header.raw_size")
    declared = _zstd_size(payload, field) if codec == types_pb2.CODEC_ZSTD else _lz4_size(payload, field)
    if declared is not None and declared != raw_size:
        raise CorruptBatch(
            f"the header says {raw_size} bytes before compression, the frame says {declared}",
            field=f"{field}.header.raw_size",
        )


def inflate(codec: int, payload: bytes, raw_size: int) -> bytes:
    """What ``compress`` was given: exactly `raw_size` bytes. Never holds more than a little over that.

    Raises Unimplemented for a codec of a later version, CorruptBatch where `payload` is anything else than one whole
    frame of that size.
    """
    if codec not in _KNOWN:
        raise Unimplemented(f"records compressed with {codec_name(codec)} cannot be read by this version")
    try:
        check_frame(codec, payload, raw_size, "batch")
    except CorruptBatch:
        raise
    except InvalidArgument as error:
        raise CorruptBatch(error.message, field=error.field) from None
    try:
        raw = _unzstd(payload, raw_size) if codec == types_pb2.CODEC_ZSTD else _unlz4(payload, raw_size)
    except (zstandard.ZstdError, RuntimeError, EOFError, MemoryError):
        raise CorruptBatch(
            f"the records are not one whole frame of {codec_name(codec)} with {raw_size} bytes in it",
            field="batch.records",
        ) from None
    if len(raw) != raw_size:
        raise CorruptBatch(
            f"the header says {raw_size} bytes before compression, there are "
            f"{'more' if len(raw) > raw_size else len(raw)}",
            field="batch.header.raw_size",
        )
    return raw


def _zstd_size(payload: bytes, field: str) -> int | None:
    """The size that a zstd frame declares; None: it declares none."""
    try:
        frame = zstandard.get_frame_parameters(payload)
    except zstandard.ZstdError:
        raise CorruptBatch("the records do not begin with a zstd frame", field=f"{field}.records") from None
    if frame.dict_id:
        raise CorruptBatch("the frame needs a dictionary, which nobody has", field=f"{field}.records")
    if frame.window_size > RAW_SIZE_MAX:
        # A reader would have to allocate it before it sees the first byte.
        raise CorruptBatch(
            f"the frame asks for a window of {frame.window_size} bytes, at most {RAW_SIZE_MAX}",
            field=f"{field}.records",
        )
    return None if frame.content_size in _ZSTD_SIZE_UNKNOWN else frame.content_size


def _lz4_size(payload: bytes, field: str) -> int | None:
    """The size that an lz4 frame declares; None: it declares none."""
    try:
        frame = lz4.frame.get_frame_info(payload)
    except RuntimeError:
        frame = {"skippable": True}
    if frame["skippable"]:
        raise CorruptBatch("the records do not begin with an lz4 frame", field=f"{field}.records")
    return int(frame["content_size"]) or None


def _unzstd(payload: bytes, raw_size: int) -> bytes:
    """Writes into a buffer of `raw_size` bytes, so a frame that holds more fails."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=RAW_SIZE_MAX)
    return decompressor.decompress(payload, max_output_size=raw_size, allow_extra_data=False)


def _unlz4(payload: bytes, raw_size: int) -> bytes:
    """At most one byte more than `raw_size`. The frame must end with the payload."""
    decompressor = lz4.frame.LZ4FrameDecompressor()
    raw = bytes(decompressor.decompress(payload, max_length=raw_size + 1))
    if len(raw) <= raw_size and (not decompressor.eof or decompressor.unused_data):
        raise EOFError("the frame ends before, or not with, the payload")
    return raw
