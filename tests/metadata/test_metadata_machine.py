"""The controller's state machine: replay, and entries that stop it."""

from __future__ import annotations

from typing import Any

import pytest

from raftmq.ids import LogIndex, NodeId, Offset, ProducerId, Term
from raftmq.metadata import events
from raftmq.metadata.events import ClusterVersionRaised, Event, ProducerIdsAllocated
from raftmq.metadata.image import MetadataImage
from raftmq.metadata.machine import MetadataMachine
from raftmq.raft.types import EntryKind
from raftmq.records.entry import CHAIN_START, LogEntry, seal
from raftmq.records.poison import CorruptState, PoisonEntry
from raftmq.records.state_kinds import StateKind


def entry(index: int, kind: EntryKind, happened: list[Event] | None = None, **overrides: Any) -> LogEntry:
    fields: dict[str, Any] = {
        "previous_chain": CHAIN_START,
        "index": LogIndex(index),
        "term": Term(4),
        "kind": kind,
        "version": 1,
        "base_offset": Offset(0),
        "count": 0,
        "log_tick": 10 * index,
        "wall_ms": 1000 * index,
        "inline": events.encode(happened or []),
    }
    return seal(**fields | overrides)


ALLOCATED = ProducerIdsAllocated(NodeId(1), ProducerId(1), 1000)
RAISED = ClusterVersionRaised(2)


def test_events_are_replayed_in_order_and_returned() -> None:
    machine = MetadataMachine()
    machine.restore([])
    assert machine.apply(entry(1, EntryKind.NOOP)) == []
    assert machine.apply(entry(2, EntryKind.COMMAND, [ALLOCATED, RAISED])) == [ALLOCATED, RAISED]
    assert machine.image == MetadataImage().replay(ALLOCATED).replay(RAISED).at(LogIndex(2))
    assert (machine.applied_index, machine.log_tick, machine.wall_ms) == (2, 20, 2000)
    assert (machine.next_offset, machine.log_start_offset) == (0, 0)
    assert machine.take_rows() == []


def test_the_image_stays_the_same_object_while_nothing_happens() -> None:
    machine = MetadataMachine()
    machine.apply(entry(1, EntryKind.COMMAND, [RAISED]))
    image = machine.image
    for index, kind in ((2, EntryKind.NOOP), (3, EntryKind.MEMBERSHIP), (4, EntryKind.COMMAND)):
        machine.apply(entry(index, kind))
    assert machine.image is image
    assert (machine.image.version, machine.applied_index) == (1, 4)


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (entry(2, EntryKind.COMMAND, [ALLOCATED, RAISED]), "does not fit what came before: ClusterVersionRaised"),
        (entry(2, EntryKind.COMMAND, inline=b"\xff"), "cannot be read"),
        (entry(2, EntryKind.COMMAND, [ALLOCATED], version=2), "events of version 2"),
        (entry(2, EntryKind.DATA, count=1), "holds records"),
        (entry(2, EntryKind.NOOP, log_tick=9), "goes back in time"),
        (entry(2, EntryKind.NOOP, wall_ms=999), "goes back in time"),
    ],
)
def test_an_entry_that_cannot_be_applied_is_poison_and_changes_nothing(poison: LogEntry, reason: str) -> None:
    machine = MetadataMachine()
    machine.apply(entry(1, EntryKind.COMMAND, [RAISED]))
    image = machine.image
    with pytest.raises(PoisonEntry, match=f"entry 2 of term 4 .*{reason}"):
        machine.apply(poison)
    assert machine.image is image
    assert (machine.applied_index, machine.log_tick, machine.wall_ms) == (1, 10, 1000)


@pytest.mark.parametrize("index", [1, 3])
def test_entries_are_applied_once_and_in_order(index: int) -> None:
    machine = MetadataMachine()
    machine.apply(entry(1, EntryKind.NOOP))
    with pytest.raises(AssertionError):
        machine.apply(entry(index, EntryKind.NOOP))


def test_there_is_nothing_to_restore() -> None:
    with pytest.raises(CorruptState):
        MetadataMachine().restore([(StateKind.APPLIED, b"", b"")])
