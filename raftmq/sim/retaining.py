"""Topics that forget: what a seed decides about retention and snapshots, and what became of all that was removed.

Logs lose their beginnings here, and properties are about whole logs. So each group has a *history*: every entry that
was committed, noted when it was first seen. What a replica no longer has is read from there, and must be what its log
says that it was; a property then holds for all that ever was, removed or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from raftmq.assembly import Assembly
from raftmq.ids import GroupId, LogIndex, Term
from raftmq.raft.types import EntryKind
from raftmq.records.batch import decode_records
from raftmq.records.entry import CHAIN_START, LogEntry
from raftmq.v1 import types_pb2

if TYPE_CHECKING:
    from raftmq.replica.group import ReplicaGroup

FOR_EVER = 1 << 40


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """How soon records go, and how slowly those who need a snapshot get one. Times in milliseconds."""

    size_bytes: int = 0
    """Of the topics of the run; 0: they keep everything."""
    age_ms: int = 0
    trim_ms: int = FOR_EVER
    """How often leaders ask what may go."""
    waited_for_ms: int = 0
    """How long a silent replica holds entries back, and how much of them."""
    held_bytes: int = 0
    part_bytes: int = 1 << 18
    bytes_per_s: int = 1 << 26

    @property
    def forgets(self) -> bool:
        """Anything is ever removed."""
        return bool(self.size_bytes or self.age_ms)

    def tune(self, assembly: Assembly) -> None:
        """Have a node that is about to start behave so."""
        if self.trim_ms < FOR_EVER:
            upkeep = assembly.replicas.upkeep
            upkeep.trim_interval, upkeep.waited_for = self.trim_ms, self.waited_for_ms
            upkeep.held_bytes_max = self.held_bytes
            assembly.snapshots.part_bytes = self.part_bytes


def draw_retention(rng: Random, election_ms: int) -> RetentionPlan:
    """Four seeds of ten forget, most of them by size, some by age."""
    if rng.random() >= 0.4:
        return RetentionPlan()
    by_age = rng.random() < 0.25
    return RetentionPlan(
        size_bytes=0 if by_age else rng.choice((200, 500, 2_000, 8_000)),
        age_ms=int(election_ms * rng.choice((0.5, 2))) if by_age else 0,
        trim_ms=int(election_ms * rng.choice((0.1, 0.3, 0.6))),
        waited_for_ms=int(election_ms * rng.choice((0, 0.5, 2))),
        held_bytes=rng.choice((0, 0, 1_000, 1 << 30)),
        part_bytes=rng.choice((1, 500, 1 << 18)),
        bytes_per_s=rng.choice((1_500, 10_000, 1 << 26)),
    )


class History:
    """Of one group: its committed entries from the first one on."""

    def __init__(self) -> None:
        self.chains: list[bytes] = [CHAIN_START]
        """By log index; [0] is the hash before the first entry."""
        self.terms: list[Term] = [Term(0)]
        self._entries: list[LogEntry] = []

    def note(self, commit: LogIndex, entry: Callable[[LogIndex], LogEntry]) -> None:
        """Everything up to `commit` is committed; `entry` has those that are not known here."""
        for index in range(len(self.chains), commit + 1):
            found = entry(LogIndex(index))
            self._entries.append(found)
            self.chains.append(found.chain)
            self.terms.append(found.term)

    def before(self, group: ReplicaGroup) -> tuple[list[bytes], list[Term]]:
        """Chains and terms of what the log of `group` has lost. Raises AssertionError where that is not what was
        committed."""
        start = group.row.raft_start
        assert start <= len(self.chains), f"group {group.id} begins at {start}, {len(self.chains) - 1} were committed"
        chains, terms = self.chains[:start], self.terms[:start]
        anchor = group.row.anchor
        assert (chains[-1], terms[-1]) == (anchor.chain, anchor.term), (
            f"group {group.id} on {group.me} begins at {start} after another entry than was committed"
        )
        return chains, terms

    def entry(self, index: LogIndex) -> LogEntry:
        return self._entries[index - 1]


class Histories:
    """Of all groups."""

    def __init__(self) -> None:
        self._histories: dict[GroupId, History] = {}

    def of(self, group: GroupId) -> History:
        return self._histories.setdefault(group, History())


def records(entries: Iterable[LogEntry]) -> list[tuple[int, bytes, int]]:
    """(offset, value, leader epoch) of the records in `entries`."""
    return [
        (entry.base_offset + position, record.value, entry.term)
        for entry in entries
        if entry.kind is EntryKind.DATA
        for position, record in enumerate(decode_records(types_pb2.BatchHeader.FromString(entry.inline), entry.payload))
    ]
