"""Dead letters: what stands in the topic that parked messages are copied to, and where each of them comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from raftmq.broker.queues.dead_letters import PREFIX
from raftmq.raft.types import EntryKind
from raftmq.records.batch import decode_records
from raftmq.records.entry import LogEntry
from raftmq.v1 import types_pb2


class LetterOf(NamedTuple):
    """Which message it is a copy of."""

    queue: str
    """Topic and group."""
    partition: str
    """As histories of queues name it."""
    offset: int


class Letter(NamedTuple):
    key: bytes
    value: bytes
    reason: str
    attempts: int
    failures: int


def stored(entries: Iterable[LogEntry]) -> list[tuple[int, types_pb2.Record]]:
    """Offset and record of all that is in `entries`."""
    return [
        (offset, record)
        for entry in entries
        if entry.kind is EntryKind.DATA
        for offset, record in enumerate(
            decode_records(types_pb2.BatchHeader.FromString(entry.inline), entry.payload), entry.base_offset
        )
    ]


def letters_in(entries: Iterable[LogEntry], found: dict[LetterOf, list[Letter]]) -> None:
    """Add the letters of a partition of the topic."""
    for _, record in stored(entries):
        told = {one.name.removeprefix(PREFIX): one.value.decode() for one in record.headers}
        if "group" in told:
            of = LetterOf(
                f"{told['topic']}/{told['group']}", f"{told['topic']}/{told['partition']}", int(told["offset"])
            )
            letter = Letter(record.key, record.value, told["reason"], int(told["attempts"]), int(told["failures"]))
            found.setdefault(of, []).append(letter)
