"""From bytes to a request, without giving a few bytes the power to take much memory or time.

Parsed, an empty record or header takes fifty times the two bytes that it takes on the wire: 16 MiB of them are 800 MiB
and seconds of everybody's time. So the parts of a large request are counted before it is parsed, by walking over the
tags and lengths of the wire format; the walk ends with the first part too many. Bytes and texts are stepped over, so
that a batch, however large, costs a handful of steps.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from raftmq.errors import InvalidArgument, MessageTooLarge

PARTS_MAX = 100_000
"""Most fields in a request, those of its records and of their headers counted one by one."""
UNCOUNTED_BYTES = 16 * 1024
"""A request up to this size is parsed as it is: it cannot take more than a megabyte."""

_VARINT, _FIXED64, _BYTES, _START_GROUP, _END_GROUP, _FIXED32 = range(6)
_WIDTH = {_FIXED64: 8, _FIXED32: 4}
_NUMBERS = frozenset(
    kind
    for name, kind in vars(FieldDescriptor).items()
    if name.startswith("TYPE_") and name not in ("TYPE_STRING", "TYPE_BYTES", "TYPE_MESSAGE", "TYPE_GROUP")
)

Field = tuple[str, "Descriptor | None", bool]
"""Name, its message where that is to be walked over too, and whether it is a list of packed numbers."""


class _TooManyParts(Exception):
    def __init__(self, field: str) -> None:
        self.field = field


def parse(request_class: type[Message], data: bytes) -> Message:
    """`data` as a request. Raises InvalidArgument where it is none, MessageTooLarge where it has too many parts."""
    name = request_class.DESCRIPTOR.name
    try:
        if len(data) > UNCOUNTED_BYTES:
            _count(data, 0, len(data), cast(Descriptor, request_class.DESCRIPTOR), PARTS_MAX)
        return request_class.FromString(data)
    except _TooManyParts as error:
        raise MessageTooLarge(
            f"the {name} has more than {PARTS_MAX} fields and list elements", field=error.field
        ) from None
    except (DecodeError, IndexError):
        raise InvalidArgument(f"the request is not a {name}: the bytes cannot be parsed") from None


def _count(data: bytes, at: int, end: int, descriptor: Descriptor, left: int) -> int:
    """`left`, less the parts of the message in ``data[at:end]``. Raises _TooManyParts; IndexError where the bytes end
    early."""
    fields = _fields(descriptor)
    while at < end:
        tag = data[at]
        at += 1
        if tag >= 0x80:
            tag, at = _varint(data, at - 1)
        kind = tag & 7
        left -= 1
        if kind == _BYTES:
            size = data[at]
            at += 1
            if size >= 0x80:
                size, at = _varint(data, at - 1)
            left = _spend(data, at, at + size, fields.get(tag >> 3), left)
            at += size
        elif kind == _VARINT:
            _, at = _varint(data, at)
        else:
            # Groups have no length: their fields are counted as if they were this message's own.
            at += _WIDTH.get(kind, 0)
        if left < 0:
            raise _TooManyParts(fields[tag >> 3][0] if tag >> 3 in fields else "")
    return left


def _spend(data: bytes, at: int, end: int, field: Field | None, left: int) -> int:
    """`left`, less what lies within a field that has a length."""
    if field is None:
        return left
    name, inner, packed = field
    if packed:
        return left - (end - at)
    if inner is None or left < 0:
        return left
    try:
        return _count(data, at, min(end, len(data)), inner, left)
    except _TooManyParts as error:
        raise _TooManyParts(f"{name}.{error.field}" if error.field else name) from None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where the next byte is."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 63:
            return value, at + 1


@cache
def _fields(descriptor: Descriptor) -> dict[int, Field]:
    """The fields of a message by number."""
    return {
        field.number: (
            field.name,
            field.message_type if field.message_type is not None and _has_lists(field.message_type, ()) else None,
            field.is_repeated and field.type in _NUMBERS,
        )
        for field in descriptor.fields
    }


def _has_lists(descriptor: Descriptor, above: tuple[Descriptor, ...]) -> bool:
    """Whether a message can be large by what it has many of. `above`: the messages that it was reached through."""
    return descriptor in above or any(
        field.is_repeated or (field.message_type is not None and _has_lists(field.message_type, (*above, descriptor)))
        for field in descriptor.fields
    )
