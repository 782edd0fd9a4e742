"""From a row on disk to a running replica: the log's shape, its last entry, its state machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from raftmq.ids import CONTROLLER_GROUP, Generation, LogIndex, ReplicaId, Term, Tick
from raftmq.machines import LogMachine, new_machine
from raftmq.metadata.machine import MetadataMachine
from raftmq.ports import Anchor, ReplicaRow, StateKind, StorageError, Store
from raftmq.raft.config import RaftConfig
from raftmq.raft.node import RaftNode
from raftmq.raft.types import Restored
from raftmq.records.entry import LogEntry, chain_follows
from raftmq.records.poison import CorruptState
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.observer import Observer
from raftmq.replica.retention import Extents


def open_group(
    row: ReplicaRow,
    me: ReplicaId,
    store: Store,
    config: RaftConfig,
    rng: Random,
    now: Tick,
    observer: Observer,
    last_contact: Callable[[ReplicaGroup, ReplicaId], Tick],
) -> ReplicaGroup:
    """The replica of `row`, as it was when its process ended. Raises StorageError where the log is damaged."""
    machine = _machine(row, store)
    log = _scan(row, store, machine.applied_index)
    return _assemble(row, me, store, config, rng, now, observer, last_contact, machine, log)


def open_somehow(
    row: ReplicaRow,
    me: ReplicaId,
    store: Store,
    config: RaftConfig,
    rng: Random,
    now: Tick,
    observer: Observer,
    last_contact: Callable[[ReplicaGroup, ReplicaId], Tick],
    start_over: Callable[[ReplicaRow, str], ReplicaRow | None],
) -> ReplicaGroup:
    """As ``open_group``; of a damaged replica the one that takes its place, or a halted stand-in."""
    try:
        return open_group(row, me, store, config, rng, now, observer, last_contact)
    except StorageError as error:
        damage = str(error)
    other = start_over(row, damage)
    if other is not None:
        return open_group(other, me, store, config, rng, now, observer, last_contact)
    empty = replace(row, raft_start=LogIndex(1), anchor=Anchor(), commit_index=LogIndex(0))
    machine = _new_machine(row)
    group = _assemble(empty, me, store, config, rng, now, observer, last_contact, machine, ((), None, Extents()))
    group.halted = damage
    return group


_Log = tuple[tuple[tuple[Term, LogIndex], ...], LogEntry | None, Extents]


def _assemble(
    row: ReplicaRow,
    me: ReplicaId,
    store: Store,
    config: RaftConfig,
    rng: Random,
    now: Tick,
    observer: Observer,
    last_contact: Callable[[ReplicaGroup, ReplicaId], Tick],
    machine: LogMachine | MetadataMachine,
    log: _Log,
) -> ReplicaGroup:
    runs, end, extents = log
    last = LogIndex(row.raft_start - 1) if end is None else end.index
    if machine.applied_index > last:
        raise StorageError(
            f"group {row.group}: derived state is at log index {machine.applied_index}, the log ends at {last}"
        )
    restored = Restored(
        hard_state=row.hard_state,
        memberships=row.memberships,
        start_index=row.raft_start,
        start_term=row.anchor.term,
        last_index=last,
        runs=runs,
        commit_index=max(machine.applied_index, min(row.commit_index, last)),
        applied_index=machine.applied_index,
        suspect=row.suspect,
    )
    opened: list[ReplicaGroup] = []
    node = RaftNode(config, me, restored, rng, now, last_contact=lambda member: last_contact(opened[0], member))
    opened.append(ReplicaGroup(row, me, node, machine, store, end, extents, observer))
    return opened[0]


def _new_machine(row: ReplicaRow) -> LogMachine | MetadataMachine:
    return MetadataMachine() if row.group == CONTROLLER_GROUP else new_machine(row.kind)


def _machine(row: ReplicaRow, store: Store) -> LogMachine | MetadataMachine:
    machine = _new_machine(row)
    rows = [(kind, key, value) for kind in StateKind for key, value in store.state(row.generation, kind)]
    if rows:
        try:
            machine.restore(rows)
        except CorruptState as error:
            raise StorageError(f"group {row.group}: derived state cannot be read: {error}") from error
    return machine


def _scan(row: ReplicaRow, store: Store, applied: LogIndex) -> _Log:
    """Term runs, the last entry's header and extents up to `applied`, read once over all headers; the chain is
    checked on the way."""
    extents = Extents()
    runs: list[tuple[Term, LogIndex]] = []
    last: LogEntry | None = None
    chain = row.anchor.chain
    for entry in store.scan_headers(row.generation, row.raft_start):
        if not chain_follows(chain, entry):
            raise StorageError(f"group {row.group}: the chain of hashes breaks at log index {entry.index}")
        if not runs or runs[-1][0] != entry.term:
            runs.append((entry.term, entry.index))
        if entry.index <= applied:
            extents.add(entry)
        chain = entry.chain
        last = entry
    return tuple(runs), last, extents


def next_generation(rows: list[ReplicaRow]) -> Generation:
    """A generation that nothing on this disk belongs to."""
    return Generation(max((max(row.generation, row.installing or 0, row.damaged or 0) for row in rows), default=0) + 1)
