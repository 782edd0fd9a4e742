"""Ops of queue groups as bytes in the log. Frozen per version of commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from raftmq.ids import LeaseId, Offset, QueueId
from raftmq.internal.v1 import queues_pb2
from raftmq.partition.queues.commands import (
    ERROR_BYTES_MAX,
    GRANT_MAX,
    PROCESSED_KEY_BYTES_MAX,
    REASON_BYTES_MAX,
    SECRET_BYTES,
    Cancel,
    Configure,
    Extend,
    Grant,
    Hold,
    Introduce,
    Pause,
    QueueCommand,
    QueueOp,
    Redrive,
    Remove,
    Resume,
    Routed,
    Seek,
    Settle,
    Special,
    Verdict,
)
from raftmq.partition.queues.settings import QueueSettings
from raftmq.records.batch import PRIORITY_MAX
from raftmq.records.poison import parse_strictly


def to_proto(command: QueueCommand) -> queues_pb2.QueueCommand:
    """The message of a command."""
    return queues_pb2.QueueCommand(ops=[_op_to_proto(op) for op in command.ops])


def from_proto(message: queues_pb2.QueueCommand) -> QueueCommand:
    """The command of a message. Raises ValueError where it holds an op that an honest leader does not propose."""
    return QueueCommand(tuple([_op_from_proto(op) for op in message.ops]))


def attach(header: bytes, settles: Sequence[Settle]) -> bytes:
    """A batch's serialised header with verdicts that are one entry with it; others that stand there cease to count."""
    command = to_proto(QueueCommand(tuple(settles))).SerializeToString()
    return header + queues_pb2.BatchVerdicts(command=command).SerializeToString()


def attached(stored: bytes) -> tuple[Settle, ...]:
    """The verdicts behind a batch's header. Raises ValueError where an honest leader does not write that."""
    try:
        command = queues_pb2.BatchVerdicts.FromString(stored).command
    except DecodeError:
        raise ValueError("verdicts that cannot be read") from None
    ops = from_proto(parse_strictly(queues_pb2.QueueCommand, command)).ops
    settles = tuple([op for op in ops if isinstance(op, Settle)])
    if not settles or len(settles) != len(ops):
        raise ValueError("verdicts with a batch that are none")
    return settles


def _op_to_proto(op: QueueOp) -> queues_pb2.QueueOp:
    make = queues_pb2.QueueOp
    match op:
        case Configure(group, settings, start):
            return make(group=group, configure=queues_pb2.QueueConfigure(settings=settings.to_proto(), start=start))
        case Remove(group):
            return make(group=group, remove=queues_pb2.QueueRemove())
        case Introduce():
            return make(group=op.group, introduce=_introduce_to_proto(op))
        case Grant(group, worker, most, secret, lease_ms):
            grant = queues_pb2.QueueGrant(worker=worker, max=most, secret=secret, lease_ms=lease_ms)
            return make(group=group, grant=grant)
        case Settle():
            return make(group=op.group, settle=_settle_to_proto(op))
        case Extend(group, lease, secret, lease_ms):
            return make(group=group, extend=queues_pb2.QueueExtend(lease=lease, secret=secret, lease_ms=lease_ms))
        case Seek(group, offset):
            return make(group=group, seek=queues_pb2.QueueSeek(offset=offset))
        case Pause(group):
            return make(group=group, pause=queues_pb2.QueuePause())
        case Resume(group):
            return make(group=group, resume=queues_pb2.QueueResume())
        case Redrive(group, offsets):
            return make(group=group, redrive=queues_pb2.QueueRedrive(offsets=offsets))
        case Routed(group, offsets, remove, ticks):
            routed = queues_pb2.QueueRouted(offsets=offsets, remove=remove, parked_ticks=ticks)
            return make(group=group, routed=routed)
        case Cancel(group, offset):
            return make(group=group, cancel=queues_pb2.QueueCancel(offset=offset))
        case Hold(offset, record):
            return make(hold=queues_pb2.QueueHold(offset=offset, record=record))


def _introduce_to_proto(op: Introduce) -> queues_pb2.QueueIntroduce:
    return queues_pb2.QueueIntroduce(
        first=op.first,
        next=op.next,
        keys=op.keys,
        lanes=op.lanes,
        specials=[
            queues_pb2.QueueSpecial(
                offset=special.offset,
                priority=special.priority,
                deliver_at_ms=special.deliver_at_ms,
                expires_at_ms=special.expires_at_ms,
            )
            for special in op.specials
        ],
    )


def _settle_to_proto(op: Settle) -> queues_pb2.QueueSettle:
    return queues_pb2.QueueSettle(
        lease=op.lease,
        secret=op.secret,
        verdict=op.verdict,
        offsets=op.offsets,
        delay_ms=op.delay_ms,
        reason=op.reason,
        error=op.error,
        processed_keys=op.processed_keys,
    )


def _op_from_proto(message: queues_pb2.QueueOp) -> QueueOp:
    which = message.WhichOneof("op")
    if which is None:
        raise ValueError("an op without content")
    if (message.group == 0) != (which == "hold"):
        raise ValueError(f"a {which} of queue group {message.group}")
    return _READERS[which](QueueId(message.group), getattr(message, which))


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _configure(group: QueueId, message: queues_pb2.QueueConfigure) -> QueueOp:
    return Configure(group, QueueSettings.from_proto(message.settings), Offset(message.start))


def _introduce(group: QueueId, message: queues_pb2.QueueIntroduce) -> QueueOp:
    count = message.next - message.first
    _require(count > 0, "an introduction of nothing")
    for hashes in (message.keys, message.lanes):
        _require(len(hashes) in (0, count), f"{len(hashes)} hashes for {count} records")
    specials: list[Special] = []
    last = message.first - 1
    for special in message.specials:
        _require(last < special.offset < message.next, f"special record {special.offset} is not among those introduced")
        _require(special.priority <= PRIORITY_MAX, f"priority {special.priority}")
        last = special.offset
        specials.append(Special(Offset(last), special.priority, special.deliver_at_ms, special.expires_at_ms))
    keys, lanes = tuple(message.keys), tuple(message.lanes)
    return Introduce(group, Offset(message.first), Offset(message.next), keys, lanes, tuple(specials))


def _grant(group: QueueId, message: queues_pb2.QueueGrant) -> QueueOp:
    _require(1 <= message.max <= GRANT_MAX, f"a grant of {message.max} records")
    _require(len(message.secret) == SECRET_BYTES, f"a secret of {len(message.secret)} bytes")
    return Grant(group, message.worker, message.max, message.secret, message.lease_ms)


def _settle(group: QueueId, message: queues_pb2.QueueSettle) -> QueueOp:
    keys, offsets = tuple(message.processed_keys), tuple(message.offsets)
    _require(not keys or len(keys) == len(offsets), f"{len(keys)} processed keys for {len(offsets)} records")
    _require(max(map(len, keys), default=0) <= PROCESSED_KEY_BYTES_MAX, "a processed key that is too long")
    _require(len(message.reason.encode()) <= REASON_BYTES_MAX, "a reason that is too long")
    _require(len(message.error.encode()) <= ERROR_BYTES_MAX, "an error that is too long")
    delay = message.delay_ms if message.HasField("delay_ms") else None
    return Settle(
        group, LeaseId(message.lease), message.secret, Verdict(message.verdict), offsets, delay, message.reason,
        message.error, keys,
    )  # fmt: skip


def _extend(group: QueueId, message: queues_pb2.QueueExtend) -> QueueOp:
    return Extend(group, LeaseId(message.lease), message.secret, message.lease_ms)


def _routed(group: QueueId, message: queues_pb2.QueueRouted) -> QueueOp:
    offsets, ticks = tuple(message.offsets), tuple(message.parked_ticks)
    _require(len(ticks) in (0, len(offsets)), f"{len(ticks)} parkings of {len(offsets)} records")
    return Routed(group, offsets, message.remove, ticks)


_READERS: dict[str, Callable[[QueueId, Any], QueueOp]] = {
    "configure": _configure,
    "remove": lambda group, _: Remove(group),
    "introduce": _introduce,
    "grant": _grant,
    "settle": _settle,
    "extend": _extend,
    "seek": lambda group, message: Seek(group, Offset(message.offset)),
    "pause": lambda group, _: Pause(group),
    "resume": lambda group, _: Resume(group),
    "redrive": lambda group, message: Redrive(group, tuple(message.offsets)),
    "routed": _routed,
    "cancel": lambda group, message: Cancel(group, Offset(message.offset)),
    "hold": lambda _, message: Hold(Offset(message.offset), message.record),
}
