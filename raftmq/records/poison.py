"""A committed entry that must not be skipped and cannot be applied; and how bodies of entries are read."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

MessageT = TypeVar("MessageT", bound=Message)


class PoisonEntry(Exception):
    """A committed entry cannot be applied: its group stops here, on every replica alike.

    Skipping it would let replicas drift apart: one that understands the entry applies it, one that does not goes on
    without. The message says what is wrong. The state is as it was before the entry.
    """


class CorruptState(ValueError):
    """Stored rows of derived state that cannot be what a state machine wrote. The message says why."""


def parse_strictly(message_class: type[MessageT], body: bytes) -> MessageT:
    """A message of `message_class`; a field that this version does not know is an error, not something to ignore.

    Raises ValueError with a reason.
    """
    try:
        message = message_class.FromString(body)
    except DecodeError:
        raise ValueError(f"{len(body)} bytes are not a {message_class.DESCRIPTOR.name}") from None
    unknown = unknown_field(message)
    if unknown is not None:
        raise ValueError(f"{unknown} is not known to this version")
    return message


def unknown_field(message: Message) -> str | None:
    """Name of the first field in `message`, or in a message inside it, that its definition does not have."""
    unknown_fields = UnknownFieldSet(message)
    if len(unknown_fields):
        return f"field {unknown_fields[0].field_number} of {message.DESCRIPTOR.name}"
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        for inner in value if descriptor.is_repeated else (value,):
            unknown = unknown_field(inner)
            if unknown is not None:
                return unknown
    return None
