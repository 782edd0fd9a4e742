"""A record as it stands in a serialised ``RecordSet``, written without making a message of it.

Who sends hundreds of thousands of records a second spends most of its time on making objects that live for a moment.
A plain record is four numbers and two runs of bytes, and what stands before a value depends on its length alone.
"""

from __future__ import annotations

from functools import lru_cache

_RECORDS, _KEY, _VALUE, _TIMESTAMP = b"\x0a", b"\x0a", b"\x12", b"\x20"
"""Tags of ``RecordSet.records`` and of the fields of ``Record``: number and wire type, as in the proto file."""


def encode_record(key: bytes | None, value: bytes | None, timestamp_ms: int = 0) -> bytes:
    """The bytes by which a record without headers makes a ``RecordSet`` longer. `timestamp_ms`: not below 0."""
    if key is None and timestamp_ms == 0 and value is not None:
        return _before_value(len(value)) + value
    body = b"" if key is None else _KEY + varint(len(key)) + key
    if value is not None:
        body += _VALUE + varint(len(value)) + value
    if timestamp_ms:
        body += _TIMESTAMP + varint(timestamp_ms)
    return _RECORDS + varint(len(body)) + body


def varint(number: int) -> bytes:
    """`number`, not below 0, as protobuf writes it."""
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


@lru_cache(maxsize=4096)
def _before_value(size: int) -> bytes:
    """Everything before the value of a record that has nothing else."""
    inner = _VALUE + varint(size)
    return _RECORDS + varint(len(inner) + size) + inner
