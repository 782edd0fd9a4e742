"""Errors on the wire: a `RaftmqError` as a ``google.rpc.Status`` with trailers, and back. Used by both ends.

A status of raftmq's own always carries::

    grpc-status-details-bin   google.rpc.Status with ErrorInfo{reason, domain "raftmq", metadata}, ErrorDetail, and
                              RetryInfo where a time to wait is known, QuotaFailure with QUOTA_EXCEEDED
    raftmq-reason             the same reason in plain text, for languages where details are awkward
    raftmq-outcome            NOT_APPLIED, UNKNOWN or APPLIED
    raftmq-field              path of the refused field; absent where no field is to blame

A status without ``raftmq-reason`` comes from the transport: its error is chosen by the code alone and its outcome is
UNKNOWN. Nothing here imports grpc, so that codes are plain names ("UNAVAILABLE").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from raftmq.errors import (
    AlreadyExists,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    MessageTooLarge,
    NotFound,
    OffsetOutOfRange,
    Outcome,
    Overloaded,
    PreconditionFailed,
    QuotaExceeded,
    RaftmqError,
    Unavailable,
    Unimplemented,
)
from raftmq.v1 import types_pb2

DOMAIN = "raftmq"
DETAILS_TRAILER = "grpc-status-details-bin"
REASON_TRAILER = "raftmq-reason"
OUTCOME_TRAILER = "raftmq-outcome"
FIELD_TRAILER = "raftmq-field"

MAX_MESSAGE_BYTES = 512
MAX_FIELD_BYTES = 256
MAX_METADATA_PAIRS = 8
MAX_METADATA_NAME_BYTES = 64
MAX_METADATA_VALUE_BYTES = 256
"""What is longer is cut, so that all trailers together, encoded, stay below gRPC's 8 KiB."""

_OUTCOME_TO_WIRE = {
    Outcome.NOT_APPLIED: types_pb2.OUTCOME_NOT_APPLIED,
    Outcome.UNKNOWN: types_pb2.OUTCOME_UNKNOWN,
    Outcome.APPLIED: types_pb2.OUTCOME_APPLIED,
}

_OUTCOME_FROM_WIRE = {number: outcome for outcome, number in _OUTCOME_TO_WIRE.items()}

# What a status without raftmq's trailers means. INTERNAL, UNKNOWN and CANCELLED are then the transport's (a reset
# stream, a crashed handler), not raftmq's own, which always says more: asking again may help.
_BY_CODE: dict[str, type[RaftmqError]] = {
    "INVALID_ARGUMENT": InvalidArgument,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": AlreadyExists,
    "UNAVAILABLE": Unavailable,
    "CANCELLED": Unavailable,
    "INTERNAL": Unavailable,
    "UNKNOWN": Unavailable,
    "FAILED_PRECONDITION": PreconditionFailed,
    "ABORTED": PreconditionFailed,
    "OUT_OF_RANGE": OffsetOutOfRange,
    "RESOURCE_EXHAUSTED": Overloaded,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "DATA_LOSS": DataLoss,
    "UNIMPLEMENTED": Unimplemented,
}

Trailer = tuple[str, str | bytes]


@dataclass(frozen=True, slots=True)
class WireStatus:
    """What a server hands to gRPC to abort a call."""

    code: str
    """Name of the gRPC status code."""
    message: str
    trailers: tuple[Trailer, ...]


def encode(error: RaftmqError) -> WireStatus:
    """The status that tells `error`. Texts that are too long are cut."""
    message = _cut(error.message, MAX_MESSAGE_BYTES)
    trailers: list[Trailer] = [
        (REASON_TRAILER, error.reason),
        (OUTCOME_TRAILER, error.outcome.value),
        (DETAILS_TRAILER, _status_message(error, message).SerializeToString()),
    ]
    if error.field:
        trailers.append((FIELD_TRAILER, _printable(error.field)))
    return WireStatus(error.code, message, tuple(trailers))


def decode(code: str, message: str, trailers: Iterable[tuple[str, str | bytes]]) -> RaftmqError:
    """The error that a status tells. Never raises: what cannot be read is left out, and an outcome that cannot be
    read is UNKNOWN.

    A reason that this version does not know gives the general error of its code, with the outcome that was told and
    the reason in ``metadata["reason"]``.
    """
    plain: dict[str, str] = {}
    details = b""
    for name, value in trailers:
        if isinstance(value, str):
            plain[name] = value
        elif name == DETAILS_TRAILER:
            details = value
    reason = plain.get(REASON_TRAILER)
    if reason is None:
        return _bare(code, message)
    info, retry, detail = _details(details)
    metadata = dict(info.metadata)
    cls = RaftmqError.by_reason.get(reason)
    if cls is None:
        cls = _BY_CODE.get(code, RaftmqError)
        metadata["reason"] = reason
    return cls(
        message,
        outcome=_outcome(plain.get(OUTCOME_TRAILER)),
        field=detail.field or plain.get(FIELD_TRAILER, ""),
        retry_after_ms=max(retry.retry_delay.ToMilliseconds(), 0),
        metadata=metadata,
    )


def to_message(error: RaftmqError) -> types_pb2.Error:
    """`error` as a part of an answer, cut as ``encode`` cuts it."""
    message = types_pb2.Error(
        code=code_pb2.Code.Value(error.code),
        reason=error.reason,
        message=_cut(error.message, MAX_MESSAGE_BYTES),
        detail=_detail(error),
        metadata=_metadata(error),
    )
    if error.retry_after_ms > 0:
        message.retry_after.FromMilliseconds(error.retry_after_ms)
    return message


def from_message(message: types_pb2.Error) -> RaftmqError:
    """The error that ``to_message`` told. Never raises; what is not known here is taken as ``decode`` takes it."""
    metadata = dict(message.metadata)
    cls = RaftmqError.by_reason.get(message.reason)
    if cls is None:
        names = {number: name for name, number in code_pb2.Code.items()}
        cls = _BY_CODE.get(names.get(message.code, ""), RaftmqError)
        metadata["reason"] = message.reason
    return cls(
        message.message,
        outcome=_OUTCOME_FROM_WIRE.get(message.detail.outcome, Outcome.UNKNOWN),
        field=message.detail.field,
        retry_after_ms=max(message.retry_after.ToMilliseconds(), 0),
        metadata=metadata,
    )


def is_bare(error: RaftmqError) -> bool:
    """True where the transport said it, not a raftmq node."""
    return "grpc_code" in error.metadata


def _bare(code: str, message: str) -> RaftmqError:
    cls = _BY_CODE.get(code, RaftmqError)
    # gRPC has one code for "too many calls" and "message too large". Only the text tells which of them can pass later.
    if cls is Overloaded and "larger than max" in message:
        cls = MessageTooLarge
    return cls(message or code, outcome=Outcome.UNKNOWN, metadata={"grpc_code": code})


def _status_message(error: RaftmqError, message: str) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_metadata(error))
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=message)
    status.details.add().Pack(info)
    status.details.add().Pack(_detail(error))
    if error.retry_after_ms > 0:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(error.retry_after_ms)
        status.details.add().Pack(retry)
    if isinstance(error, QuotaExceeded):
        quota = error_details_pb2.QuotaFailure()
        quota.violations.add(subject=f"client:{info.metadata['client']}", description=message)
        status.details.add().Pack(quota)
    return status


def _metadata(error: RaftmqError) -> dict[str, str]:
    return {
        _cut(name, MAX_METADATA_NAME_BYTES): _cut(error.metadata[name], MAX_METADATA_VALUE_BYTES)
        for name in sorted(error.metadata)[:MAX_METADATA_PAIRS]
    }


def _detail(error: RaftmqError) -> types_pb2.ErrorDetail:
    return types_pb2.ErrorDetail(
        outcome=_OUTCOME_TO_WIRE[error.outcome],
        field=_cut(error.field, MAX_FIELD_BYTES),
        retriable=error.retriable,
        refresh_metadata=error.refresh_metadata,
    )


def _details(
    data: bytes,
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo, types_pb2.ErrorDetail]:
    """The three details, empty where they are absent or unreadable."""
    info, retry, detail = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), types_pb2.ErrorDetail()
    try:
        for packed in status_pb2.Status.FromString(data).details:
            for wanted in (info, retry, detail):
                if packed.Is(wanted.DESCRIPTOR):
                    packed.Unpack(wanted)
    except DecodeError:
        # The plain trailers carry what matters; a damaged detail must not hide the error itself.
        return error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), types_pb2.ErrorDetail()
    return info, retry, detail


def _outcome(text: str | None) -> Outcome:
    try:
        return Outcome(text)
    except ValueError:
        return Outcome.UNKNOWN


def _printable(text: str) -> str:
    """gRPC refuses anything but printable ASCII in a plain trailer."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:MAX_FIELD_BYTES])


def _cut(text: str, limit: int) -> str:
    """At most `limit` bytes of `text` in UTF-8, whole characters only."""
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")
