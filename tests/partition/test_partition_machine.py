"""The partition's state machine: replay, restore, and entries that stop it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.errors import RaftmqError
from raftmq.ids import LogIndex, Offset, ProducerId, Term
from raftmq.internal.v1 import storage_pb2
from raftmq.partition import commands
from raftmq.partition.machine import Applied, PartitionMachine, _read_batch
from raftmq.partition.message_ids import DEFAULT_WINDOW, Window
from raftmq.partition.producers import APPEND
from raftmq.raft.types import EntryKind
from raftmq.records.batch import BATCH_VERSION, check_batch, make_batch
from raftmq.records.entry import CHAIN_START, LogEntry, seal
from raftmq.records.poison import CorruptState, PoisonEntry
from raftmq.records.state_kinds import StateKind
from raftmq.v1 import types_pb2

EXPIRY_MS = 50


class LogBuilder:
    """Makes the entries that an honest leader would; arguments override what it would choose."""

    def __init__(self) -> None:
        self.index = 0
        self.offset = 0
        self.tick = 0
        self.wall = 1_700_000_000_000

    def entry(self, kind: EntryKind, elapsed: int = 0, **overrides: Any) -> LogEntry:
        self.index += 1
        self.tick += elapsed
        self.wall += elapsed
        fields: dict[str, Any] = {
            "previous_chain": CHAIN_START,
            "index": LogIndex(self.index),
            "term": Term(2),
            "kind": kind,
            "version": 1,
            "base_offset": Offset(self.offset),
            "count": 0,
            "log_tick": self.tick,
            "wall_ms": self.wall,
            "inline": b"",
        }
        entry = seal(**fields | overrides)
        self.offset = entry.next_offset
        return entry

    def data(
        self, records: int = 1, *, producer: tuple[int, int, int] = (0, 0, 0), message_id: str = "", **overrides: Any
    ) -> LogEntry:
        producer_id, epoch, sequence = producer
        batch = make_batch(
            [types_pb2.Record(value=b"v")] * records,
            producer_id=producer_id,
            producer_epoch=epoch,
            first_sequence=sequence,
            message_id=message_id,
        )
        checked = check_batch(batch, max_batch_bytes=2**20)
        fields: dict[str, Any] = {"inline": checked.header_bytes, "payload": checked.payload, "count": records}
        return self.entry(EntryKind.DATA, **fields | overrides)

    def take_back(self, entry: LogEntry, elapsed: int) -> None:
        """The newest entry was not proposed after all."""
        self.index, self.offset = entry.index - 1, entry.base_offset
        self.tick, self.wall = self.tick - elapsed, self.wall - elapsed

    def command(self, command: commands.PartitionCommand, elapsed: int = 0) -> LogEntry:
        return self.entry(EntryKind.COMMAND, elapsed, inline=commands.encode(command))


def snapshot(machine: PartitionMachine) -> tuple[object, ...]:
    return (
        machine.applied_index,
        machine.next_offset,
        machine.log_start_offset,
        machine.log_tick,
        machine.wall_ms,
        sorted(machine.producers),
        list(machine.message_ids),
        machine.message_ids.total,
        machine.message_ids.window,
    )


def test_a_new_partition_is_empty() -> None:
    machine = PartitionMachine()
    machine.restore([])
    assert snapshot(machine) == (0, 0, 0, 0, 0, [], [], 0, DEFAULT_WINDOW)
    assert machine.take_rows() == []


def test_records_take_offsets_and_other_entries_do_not() -> None:
    log, machine = LogBuilder(), PartitionMachine()
    entries = [log.entry(EntryKind.NOOP), log.data(3), log.data(2)]
    assert [machine.apply(entry).next_offset for entry in entries] == [0, 3, 5]
    applied = machine.apply(log.entry(EntryKind.MEMBERSHIP, elapsed=9))
    assert applied == Applied(LogIndex(4), EntryKind.MEMBERSHIP, Offset(5), Offset(5), Offset(0))
    assert (machine.applied_index, machine.next_offset, machine.log_tick) == (4, 5, 9)
    assert machine.wall_ms == 1_700_000_000_009


def test_the_payload_is_not_needed() -> None:
    """A scan of headers is enough to replay a log."""
    entry = LogBuilder().data(3, producer=(1, 0, 0))
    machine = PartitionMachine()
    assert machine.apply(dataclasses.replace(entry, payload=b"")).next_offset == 3


def test_a_trim_moves_the_log_start_forward_only_and_never_past_what_is_committed() -> None:
    log, machine = LogBuilder(), PartitionMachine()
    machine.apply(log.data(10))
    starts = [
        machine.apply(log.command(commands.TrimCommand(Offset(wanted)))).log_start_offset for wanted in (4, 2, 0, 7, 11)
    ]
    assert starts == [4, 4, 4, 7, 10]
    assert machine.next_offset == 10


def test_a_trim_moves_the_first_entry_needed_forward_only_and_never_past_itself() -> None:
    log, machine = LogBuilder(), PartitionMachine()
    machine.apply(log.data(10))
    assert machine.raft_start == 1
    starts = []
    for wanted in (2, 0, 1, 4, 99):
        machine.apply(log.command(commands.TrimCommand(Offset(0), LogIndex(wanted))))
        starts.append(machine.raft_start)
    assert starts == [2, 2, 2, 4, 6]
    restored = PartitionMachine()
    restored.restore((kind, key, value or b"") for kind, key, value in machine.take_rows())
    assert (restored.raft_start, restored.log_start_offset) == (6, 0)


def test_time_passes_with_every_kind_of_entry_and_producers_expire_by_it() -> None:
    log, machine = LogBuilder(), PartitionMachine(EXPIRY_MS)
    machine.apply(log.data(1, producer=(1, 0, 0)))
    machine.apply(log.command(commands.TickCommand(), elapsed=EXPIRY_MS - 1))
    assert len(machine.producers) == 1
    machine.take_rows()
    machine.apply(log.entry(EntryKind.NOOP, elapsed=1))
    assert len(machine.producers) == 0
    applied, gone = machine.take_rows()
    assert applied[0] is StateKind.APPLIED
    assert gone == (StateKind.PRODUCER, (1).to_bytes(8, "big"), None)
    # Its id may begin anew.
    machine.apply(log.data(1, producer=(1, 0, 0)))


def test_a_producer_whose_time_is_over_begins_anew_in_the_same_entry() -> None:
    log, machine = LogBuilder(), PartitionMachine(EXPIRY_MS)
    machine.apply(log.data(2, producer=(1, 5, 0)))
    machine.apply(log.data(2, producer=(1, 0, 0), elapsed=EXPIRY_MS))
    ((_, state),) = machine.producers
    assert (state.epoch, state.log_tick, len(state.batches)) == (0, EXPIRY_MS, 1)
    kinds = [(kind, value is None) for kind, _, value in machine.take_rows()]
    assert kinds == [(StateKind.APPLIED, False), (StateKind.PRODUCER, False)]


def test_rows_are_taken_once_and_in_order() -> None:
    log, machine = LogBuilder(), PartitionMachine()
    for producer in (300, 2, 1):
        machine.apply(log.data(1, producer=(producer, 0, 0)))
    keys = [(kind, key) for kind, key, _ in machine.take_rows()]
    assert keys == [
        (StateKind.APPLIED, b""),
        *((StateKind.PRODUCER, producer.to_bytes(8, "big")) for producer in (1, 2, 300)),
    ]
    assert machine.take_rows() == []
    machine.apply(log.data(1))
    ((kind, _, value),) = machine.take_rows()
    assert kind is StateKind.APPLIED
    assert value is not None
    row = storage_pb2.AppliedRow.FromString(value)
    assert (row.applied_index, row.next_offset, row.wall_ms) == (4, 4, 1_700_000_000_000)


entry_steps = st.one_of(
    st.tuples(st.just("data"), st.integers(1, 3), st.integers(0, 20), st.integers(0, 3), st.integers(0, 1)),
    st.tuples(st.just("named"), st.integers(1, 3), st.integers(0, 20), st.sampled_from("abcdef")),
    st.tuples(st.just("window"), st.integers(1, 4), st.integers(1, 60)),
    st.tuples(st.just("trim"), st.integers(0, 60)),
    st.tuples(st.just("tick"), st.integers(0, 60)),
    st.tuples(st.just("noop")),
)


def build_log(steps: list[tuple[Any, ...]]) -> list[LogEntry]:
    """The log of a leader that asks its table before it proposes."""
    log, leader, entries = LogBuilder(), PartitionMachine(EXPIRY_MS), []
    for step in steps:
        match step:
            case ("data", count, elapsed, producer, epoch):
                entry = propose(log, leader, count, elapsed, producer, epoch)
                if entry is None:
                    continue
            case ("named", count, elapsed, message_id):
                known = leader.message_ids.get(message_id)
                count = count if known is None else known.count
                entry = log.data(count, elapsed=elapsed, message_id=message_id)
                if leader.message_ids.find(_read_batch(entry), entry.log_tick) is not None:
                    log.take_back(entry, elapsed)
                    continue
            case ("window", count, age_ms):
                entry = log.command(commands.WindowCommand(Window(count, age_ms)))
            case ("trim", offset):
                entry = log.command(commands.TrimCommand(Offset(offset)))
            case ("tick", elapsed):
                entry = log.command(commands.TickCommand(), elapsed)
            case _:
                entry = log.entry(EntryKind.NOOP)
        leader.apply(entry)
        entries.append(entry)
    return entries


def propose(
    log: LogBuilder, leader: PartitionMachine, count: int, elapsed: int, producer: int, epoch: int
) -> LogEntry | None:
    tick = log.tick + elapsed
    state = leader.producers.get(ProducerId(producer), tick)
    known = state is not None and producer > 0
    epoch = max(epoch, state.epoch) if state is not None else epoch * (producer > 0)
    sequence = state.batches[-1].next_sequence if state is not None and known and state.epoch == epoch else 0
    batch = make_batch(
        [types_pb2.Record(value=b"v")] * count, producer_id=producer, producer_epoch=epoch, first_sequence=sequence
    )
    try:
        assert leader.producers.decide(check_batch(batch, max_batch_bytes=2**20), tick) == APPEND
    except RaftmqError:
        return None
    return log.data(count, elapsed=elapsed, producer=(producer, epoch, sequence))


positions = st.sets(st.integers(1, 40))


@settings(max_examples=150)
@given(st.lists(entry_steps, min_size=1, max_size=40), positions, positions)
def test_rows_taken_at_any_point_and_restored_equal_a_straight_replay(
    steps: list[tuple[Any, ...]], writes: set[int], crashes: set[int]
) -> None:
    entries = build_log(steps)
    straight, restarted = PartitionMachine(EXPIRY_MS), PartitionMachine(EXPIRY_MS)
    for entry in entries:
        straight.apply(entry)
    disk: dict[tuple[StateKind, bytes], bytes] = {}
    while restarted.applied_index < len(entries):
        restarted.apply(entries[restarted.applied_index])
        index = restarted.applied_index
        if index in writes:
            write(disk, restarted)
        if index in crashes:
            crashes = crashes - {index}
            restarted = PartitionMachine(EXPIRY_MS)
            restarted.restore((kind, key, value) for (kind, key), value in disk.items())
    assert snapshot(restarted) == snapshot(straight)
    installed = PartitionMachine(EXPIRY_MS)
    installed.restore(restarted.all_rows())
    assert snapshot(installed) == snapshot(straight)
    write(disk, restarted)
    at_once: dict[tuple[StateKind, bytes], bytes] = {}
    write(at_once, straight)
    assert disk == at_once


def write(disk: dict[tuple[StateKind, bytes], bytes], machine: PartitionMachine) -> None:
    for kind, key, value in machine.take_rows():
        if value is None:
            disk.pop((kind, key), None)
        else:
            disk[kind, key] = value


def test_what_was_restored_is_not_written_again() -> None:
    log, machine, restarted = LogBuilder(), PartitionMachine(), PartitionMachine()
    machine.apply(log.data(1, producer=(1, 0, 0)))
    restarted.restore((kind, key, value) for kind, key, value in machine.take_rows() if value is not None)
    assert snapshot(restarted) == snapshot(machine)
    assert restarted.take_rows() == []


def test_an_applied_entry_is_not_applied_again() -> None:
    log, machine = LogBuilder(), PartitionMachine()
    entry = log.data()
    machine.apply(entry)
    with pytest.raises(AssertionError):
        machine.apply(entry)
    log.data()
    with pytest.raises(AssertionError):
        machine.apply(log.data())


def header(**fields: Any) -> bytes:
    return types_pb2.BatchHeader(count=1, **fields).SerializeToString()


@pytest.mark.parametrize(
    ("kind", "overrides", "reason"),
    [
        (EntryKind.NOOP, {"base_offset": 6}, "begins at offset 6, the next one is 5"),
        (EntryKind.NOOP, {"base_offset": 4}, "begins at offset 4, the next one is 5"),
        (EntryKind.NOOP, {"log_tick": 9}, "goes back in time"),
        (EntryKind.NOOP, {"wall_ms": 5}, "goes back in time"),
        (EntryKind.NOOP, {"count": 1}, "is a NOOP with 1 records"),
        (EntryKind.DATA, {"count": 0}, "is a DATA with 0 records"),
        (EntryKind.DATA, {"version": BATCH_VERSION + 2}, "batch of version 3"),
        (EntryKind.DATA, {"inline": b"\xff"}, "whose header cannot be read"),
        (EntryKind.DATA, {"inline": header()}, "its batch header says 1 with 0x00000000"),
        (EntryKind.DATA, {"inline": header(crc32c=7), "payload_crc": 7, "count": 2}, "has 2 records"),
        (EntryKind.COMMAND, {"inline": b""}, "holds a command without content"),
        (EntryKind.COMMAND, {"inline": b"\x0a\x00", "version": 2}, "holds a TickCommand in a command of version 2"),
        (EntryKind.COMMAND, {"inline": b"\x0a\x00", "version": 5}, "holds a command of version 5"),
        (EntryKind.COMMAND, {"inline": b"\x52\x02\x0a\x00", "version": 2}, "holds an op without content"),
        (EntryKind.COMMAND, {"inline": b"\x52\x06\x0a\x04\x08\x05\x5a\x00"}, "holds a Queue"),
    ],
)
def test_an_entry_that_no_honest_leader_makes_is_poison_and_changes_nothing(
    kind: EntryKind, overrides: dict[str, Any], reason: str
) -> None:
    log, machine = LogBuilder(), PartitionMachine()
    machine.apply(log.data(5, elapsed=10, producer=(1, 0, 0)))
    before = snapshot(machine)
    machine.take_rows()
    entry = log.data(1, **overrides) if kind is EntryKind.DATA else log.entry(kind, **overrides)
    with pytest.raises(PoisonEntry, match=f"entry 2 of term 2 .*{reason}"):
        machine.apply(entry)
    assert snapshot(machine) == before
    assert machine.take_rows() == []


@pytest.mark.parametrize(
    ("producer", "reason"),
    [
        ((1, 3, 0), "should have been answered as a duplicate"),
        ((1, 3, 6), "should have been refused: OUT_OF_ORDER_SEQUENCE"),
        ((1, 2, 5), "should have been refused: PRODUCER_FENCED"),
        ((1, 4, 5), "should have been refused: OUT_OF_ORDER_SEQUENCE"),
        ((1, 3, 4), "should have been refused: INVALID_ARGUMENT"),
        ((2, 0, 1), "should have been refused: UNKNOWN_PRODUCER"),
    ],
)
def test_a_batch_that_should_not_be_in_the_log_is_poison(producer: tuple[int, int, int], reason: str) -> None:
    log, machine = LogBuilder(), PartitionMachine()
    machine.apply(log.data(5, producer=(1, 3, 0)))
    before = snapshot(machine)
    count = 5 if producer[2] == 0 else 1
    with pytest.raises(PoisonEntry, match=reason):
        machine.apply(log.data(count, producer=producer))
    assert snapshot(machine) == before


def test_message_ids_are_remembered_as_rows_in_the_order_of_the_log() -> None:
    log, machine = LogBuilder(), PartitionMachine()
    for message_id in "ba":
        machine.apply(log.data(2, message_id=message_id))
    keys = [(kind, key) for kind, key, _ in machine.take_rows()]
    assert keys == [
        (StateKind.APPLIED, b""),
        *((StateKind.MESSAGE_ID, number.to_bytes(8, "big")) for number in (0, 1)),
    ]
    machine.apply(log.command(commands.WindowCommand(Window(1, 1000)), elapsed=5))
    gone = [(kind, key, value) for kind, key, value in machine.take_rows() if kind is StateKind.MESSAGE_ID]
    assert gone == [(StateKind.MESSAGE_ID, bytes(8), None)]
    assert [batch.message_id for batch in machine.message_ids] == ["a"]


def test_a_known_message_id_in_the_log_is_poison_and_a_forgotten_one_is_not() -> None:
    log, machine = LogBuilder(), PartitionMachine()
    machine.apply(log.data(1, message_id="a"))
    before = snapshot(machine)
    again = log.data(1, message_id="a")
    with pytest.raises(PoisonEntry, match="should have been answered as a duplicate"):
        machine.apply(again)
    log.take_back(again, 0)
    other = log.data(2, message_id="a")
    with pytest.raises(PoisonEntry, match="should have been refused: INVALID_ARGUMENT"):
        machine.apply(other)
    log.take_back(other, 0)
    assert snapshot(machine) == before
    machine.apply(log.data(1, message_id="a", elapsed=DEFAULT_WINDOW.age_ms))
    [batch] = machine.message_ids
    assert (batch.number, batch.base_offset) == (1, 1)


def test_restore_refuses_what_is_not_a_partitions_state() -> None:
    log, machine = LogBuilder(), PartitionMachine()
    machine.apply(log.data(1, producer=(1, 0, 0)))
    (_, key, applied), (_, producer_key, producer) = machine.take_rows()
    assert applied is not None
    assert producer is not None
    with pytest.raises(CorruptState, match="without an applied row"):
        PartitionMachine().restore([(StateKind.PRODUCER, producer_key, producer)])
    with pytest.raises(CorruptState, match="no row of a partition"):
        PartitionMachine().restore([(StateKind.APPLIED, b"x", applied)])
    with pytest.raises(AssertionError, match="before the first entry"):
        machine.restore([(StateKind.APPLIED, key, applied)])
