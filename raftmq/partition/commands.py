"""Commands of a partition: bodies of its COMMAND entries. Frozen per version; a new command needs a new version.

Commands carry no offsets that a leader has given away, so they are requests: what becomes of one is decided when it is
applied, by every replica alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.ids import LogIndex, Offset
from raftmq.internal.v1 import storage_pb2
from raftmq.partition.message_ids import Window
from raftmq.records.poison import PoisonEntry, parse_strictly

VERSION = 1
"""Newest version of commands that this code can apply."""


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


PartitionCommand = TickCommand | TrimCommand | WindowCommand


def encode(command: PartitionCommand) -> bytes:
    """The body of `command`, of version `VERSION`."""
    match command:
        case TickCommand():
            message = storage_pb2.PartitionCommand(tick=storage_pb2.TickCommand())
        case TrimCommand(log_start_offset, raft_start):
            trim = storage_pb2.TrimCommand(log_start_offset=log_start_offset, raft_start=raft_start)
            message = storage_pb2.PartitionCommand(trim=trim)
        case WindowCommand(window):
            wanted = storage_pb2.WindowCommand(count=window.count, age_ms=window.age_ms)
            message = storage_pb2.PartitionCommand(window=wanted)
    return message.SerializeToString()


def decode(body: bytes, version: int) -> PartitionCommand:
    """The command in an entry's body. Raises PoisonEntry where this version does not understand all of it."""
    if version != VERSION:
        raise PoisonEntry(f"a command of version {version}; this node understands {VERSION} and must be upgraded")
    try:
        message = parse_strictly(storage_pb2.PartitionCommand, body)
    except ValueError as error:
        raise PoisonEntry(f"a command that cannot be read: {error}") from None
    match message.WhichOneof("command"):
        case "tick":
            return TickCommand()
        case "trim":
            return TrimCommand(Offset(message.trim.log_start_offset), LogIndex(message.trim.raft_start))
        case "window":
            if not (message.window.count and message.window.age_ms):
                raise PoisonEntry("a window in which nothing is remembered")
            return WindowCommand(Window(message.window.count, message.window.age_ms))
        case _:
            raise PoisonEntry("a command without content")
