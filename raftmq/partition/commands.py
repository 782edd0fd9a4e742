"""Commands of a partition: bodies of its COMMAND entries. Frozen per version; a new command needs a new version.

Commands carry no offsets that a leader has given away, so they are requests: what becomes of one is decided when it is
applied, by every replica alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.ids import LogIndex, Offset
from raftmq.internal.v1 import storage_pb2
from raftmq.partition.message_ids import Window
from raftmq.partition.queues import codec
from raftmq.partition.queues.commands import Configure, QueueCommand, QueueOp, Routed
from raftmq.records.poison import PoisonEntry, parse_strictly

VERSION = 1
"""Of ticks, trims and windows."""
QUEUE_VERSION = 2
"""Of what is asked of queue groups."""
PARKINGS_VERSION = 3
"""The same, where it tells which parking of a record a copy was made of."""
SHARES_VERSION = 4
"""The same, where a drain rate is one of several partitions together."""


@dataclass(frozen=True, slots=True)
class TickCommand:
    """Time passes without records; the entry's own stamps say how much. Proposed only when something is due."""


@dataclass(frozen=True, slots=True)
class TrimCommand:
    """Records before `log_start_offset` can no longer be read; entries before `raft_start` are needed by nobody."""

    log_start_offset: Offset
    raft_start: LogIndex = LogIndex(0)
    """Never above the entry that holds `log_start_offset`; 0: as before."""


@dataclass(frozen=True, slots=True)
class WindowCommand:
    """Message ids are remembered so long from here on."""

    window: Window


PartitionCommand = TickCommand | TrimCommand | WindowCommand | QueueCommand


def version_of(command: PartitionCommand) -> int:
    """The one version in which `command` may be proposed, once the cluster version allows it."""
    if not isinstance(command, QueueCommand):
        return VERSION
    return max((_version_of_op(op) for op in command.ops), default=QUEUE_VERSION)


def _version_of_op(op: QueueOp) -> int:
    match op:
        case Routed(parked_ticks=ticks) if ticks:
            return PARKINGS_VERSION
        case Configure(settings=settings) if settings.drain_parts > 1:
            return SHARES_VERSION
        case _:
            return QUEUE_VERSION


def encode(command: PartitionCommand) -> bytes:
    """The body of `command`, of the version that ``version_of`` says."""
    match command:
        case TickCommand():
            message = storage_pb2.PartitionCommand(tick=storage_pb2.TickCommand())
        case TrimCommand(log_start_offset, raft_start):
            trim = storage_pb2.TrimCommand(log_start_offset=log_start_offset, raft_start=raft_start)
            message = storage_pb2.PartitionCommand(trim=trim)
        case WindowCommand(window):
            wanted = storage_pb2.WindowCommand(count=window.count, age_ms=window.age_ms)
            message = storage_pb2.PartitionCommand(window=wanted)
        case QueueCommand():
            message = storage_pb2.PartitionCommand(queue=codec.to_proto(command))
    return message.SerializeToString()


def decode(body: bytes, version: int) -> PartitionCommand:
    """The command in an entry's body. Raises PoisonEntry where this version does not understand all of it."""
    if not VERSION <= version <= SHARES_VERSION:
        raise PoisonEntry(
            f"a command of version {version}; this node understands {SHARES_VERSION} and must be upgraded"
        )
    try:
        message = parse_strictly(storage_pb2.PartitionCommand, body)
    except ValueError as error:
        raise PoisonEntry(f"a command that cannot be read: {error}") from None
    try:
        command = _read(message)
    except ValueError as error:
        raise PoisonEntry(str(error)) from None
    if version != version_of(command):
        raise PoisonEntry(f"a {type(command).__name__} in a command of version {version}")
    return command


def _read(message: storage_pb2.PartitionCommand) -> PartitionCommand:
    """Raises ValueError."""
    match message.WhichOneof("command"):
        case "tick":
            return TickCommand()
        case "trim":
            return TrimCommand(Offset(message.trim.log_start_offset), LogIndex(message.trim.raft_start))
        case "window":
            if not (message.window.count and message.window.age_ms):
                raise ValueError("a window in which nothing is remembered")
            return WindowCommand(Window(message.window.count, message.window.age_ms))
        case "queue":
            return codec.from_proto(message.queue)
        case _:
            raise ValueError("a command without content")
