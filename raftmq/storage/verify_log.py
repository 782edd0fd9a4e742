"""Is one replica whole? Its log, read from its beginning, says what every other row of it must be.

log       no index missing, checksums, chain of hashes, terms and clocks that never go back, offsets without a hole
payload   there for each data entry and for no other, length and checksum
offsets   exactly what the entries say
times     the first offset of each second
state     what a replay of the log gives, where the log goes back to its first entry
row       term, commit index and configurations fit the log
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from google.protobuf.message import DecodeError

from raftmq.ids import CONTROLLER_GROUP, Generation, GroupId, LogIndex, Offset
from raftmq.machines import new_machine
from raftmq.metadata.machine import MetadataMachine
from raftmq.ports import Anchor, ReplicaRow, StateKind, StorageError
from raftmq.raft.types import EntryKind
from raftmq.records.entry import CorruptEntry, LogEntry, chain_follows, crc32c, decode
from raftmq.records.membership_codec import decode_membership
from raftmq.records.poison import CorruptState, PoisonEntry
from raftmq.storage.database import Cursor, Database
from raftmq.storage.keys import TIME_BUCKET_MS, Family, generation_range, pair_key, pair_number, value_number
from raftmq.storage.reading import scan_state
from raftmq.storage.rows import encode_offset
from raftmq.v1 import types_pb2

PROBLEMS_MAX = 20
"""Of one replica: a damaged file may hold thousands of its rows."""


@dataclass(slots=True)
class LogReport:
    """What a replica holds. ``next_index`` and ``next_offset`` come after its last entry."""

    group: GroupId
    generation: Generation
    suspect: bool
    first_index: LogIndex
    next_index: LogIndex
    first_offset: Offset
    next_offset: Offset
    payload_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dropped: int = 0
    """Problems beyond PROBLEMS_MAX."""

    def problem(self, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)
        else:
            self.dropped += 1


def check_replica(database: Database, row: ReplicaRow) -> LogReport:
    """Read everything that belongs to the replica of `row`."""
    report = LogReport(
        row.group, row.generation, row.suspect, row.raft_start, row.raft_start, row.anchor.offset, row.anchor.offset
    )
    check = _Check(database, row, report)
    try:
        check.log()
    except StorageError as error:
        report.problem(str(error))
    try:
        check.state()
    except StorageError as error:
        report.problem(str(error))
    check.row()
    if row.suspect:
        report.notes.append("suspect: it has lost synced writes, and does not vote until it has caught up")
    if report.dropped:
        report.problems.append(f"and {report.dropped} more")
    return report


class _Beside:
    """Rows of another family that go along with a log: each must be asked for, in order of their keys."""

    def __init__(self, cursor: Cursor, surplus: Callable[[bytes, bytes], None]) -> None:
        self._cursor = cursor
        self._surplus = surplus
        self._next = cursor.next()

    def take(self, key: bytes) -> bytes | None:
        """The value at `key`; None where there is none. Rows before it are surplus."""
        while self._next is not None and self._next[0] < key:
            self._skip()
        if self._next is None or self._next[0] != key:
            return None
        value = self._next[1]
        self._next = self._cursor.next()
        return value

    def drain(self) -> None:
        """Whatever is left is surplus."""
        while self._next is not None:
            self._skip()

    def _skip(self) -> None:
        assert self._next is not None
        self._surplus(*self._next)
        self._next = self._cursor.next()


class _Check:
    def __init__(self, database: Database, row: ReplicaRow, report: LogReport) -> None:
        self._database = database
        self._row = row
        self._report = report
        self._replays = row.raft_start == 1 and row.anchor == Anchor()
        self._machine = MetadataMachine() if row.group == CONTROLLER_GROUP else new_machine(row.kind)
        self._stored = self._read_state()
        self._applied = self._applied_index()
        self._last: LogEntry | None = None
        self._at_applied: LogEntry | None = None
        self._memberships = dict(row.memberships)
        self._newest_second = -1

    # -- the log -----------------------------------------------------------------------------------------------------

    def log(self) -> None:
        """Every entry, with what goes along with it. Raises StorageError where a family cannot be read on."""
        generation, report = self._row.generation, self._report
        low, high = generation_range(generation)
        families = (Family.LOG, Family.PAYLOAD, Family.OFFSETS, Family.TIMES)
        with self._database.scans([(family, low, high) for family in families]) as cursors:
            payloads = _Beside(cursors[1], self._surplus("payload", "entry"))
            offsets = _Beside(cursors[2], self._surplus("row of the offset index", "offset"))
            times = _Beside(cursors[3], self._surplus_second)
            chain: bytes | None = self._row.anchor.chain
            for key, value in cursors[0]:
                entry = self._entry(pair_number(key, generation), value, chain)
                chain = None if entry is None else entry.chain
                if entry is not None and entry.kind is EntryKind.DATA:
                    self._check_records(entry, payloads.take(key), offsets, times)
                elif entry is None:
                    payloads.take(key)
            payloads.drain()
            offsets.drain()
            times.drain()
        if self._last is None:
            return
        report.next_index, report.next_offset = LogIndex(self._last.index + 1), self._last.next_offset

    def _entry(self, index: int, value: bytes, chain: bytes | None) -> LogEntry | None:
        """The entry of a row of the log; None where it cannot be read. `chain` None: of the one before is unknown."""
        report, last = self._report, self._last
        expected = report.next_index
        report.next_index = LogIndex(index + 1)
        if index != expected:
            report.problem(f"the log holds entry {index} where {expected} should be")
            chain = None
        try:
            entry = decode(value, None)
        except CorruptEntry as error:
            report.problem(f"entry {index}: {error}")
            self._replays = False
            return None
        if entry.index != index:
            report.problem(f"the row of entry {index} holds entry {entry.index}")
        if chain is not None and not chain_follows(chain, entry):
            report.problem(f"the chain of hashes breaks at entry {index}")
        if chain is not None:
            self._check_order(entry, last)
        self._last = entry
        if index == self._applied:
            self._at_applied = entry
        self._check_membership(entry)
        self._replay(entry)
        return entry

    def _check_order(self, entry: LogEntry, last: LogEntry | None) -> None:
        anchor = self._row.anchor
        if last is None:
            before = (anchor.term, anchor.offset, anchor.log_tick, anchor.wall_ms)
        else:
            before = (last.term, last.next_offset, last.log_tick, last.wall_ms)
        term, offset, log_tick, wall_ms = before
        if entry.term < term:
            self._report.problem(f"entry {entry.index} is of term {entry.term}, the one before of {term}")
        if entry.base_offset != offset:
            self._report.problem(f"entry {entry.index} begins at offset {entry.base_offset}, not at {offset}")
        if entry.log_tick < log_tick or entry.wall_ms < wall_ms:
            self._report.problem(f"entry {entry.index} goes back in time")
        if (entry.count > 0) != (entry.kind is EntryKind.DATA):
            self._report.problem(f"entry {entry.index} is a {entry.kind.name} with {entry.count} records")

    def _check_records(self, entry: LogEntry, payload: bytes | None, offsets: _Beside, times: _Beside) -> None:
        report, index = self._report, entry.index
        if payload is None:
            report.problem(f"entry {index}: its payload is missing")
        else:
            report.payload_bytes += len(payload)
            if len(payload) != entry.stored_bytes - len(entry.row) or crc32c(payload) != entry.payload_crc:
                report.problem(f"entry {index}: its payload fails its checksum")
                payload = None
        try:
            header = types_pb2.BatchHeader.FromString(entry.inline)
        except DecodeError:
            report.problem(f"entry {index}: its batch header cannot be read")
        else:
            if (header.count, header.crc32c) != (entry.count, entry.payload_crc):
                report.problem(f"entry {index}: its batch header is of another batch")
        stored = offsets.take(pair_key(self._row.generation, entry.base_offset))
        if stored is None:
            report.problem(f"offset {entry.base_offset} is missing from the offset index")
        elif payload is not None and stored != encode_offset(replace(entry, payload=payload)):
            report.problem(f"the offset index says something else of offset {entry.base_offset} than the log")
        self._check_second(entry, times)

    def _check_second(self, entry: LogEntry, times: _Beside) -> None:
        """A log that was trimmed inside a second keeps that second's row, which names a record that is gone."""
        second = entry.wall_ms // TIME_BUCKET_MS
        if second <= self._newest_second:
            return
        is_first, self._newest_second = self._newest_second < 0, second
        stored = times.take(pair_key(self._row.generation, second))
        if stored is None:
            if not (is_first and self._row.raft_start > 1):
                self._report.problem(f"the time index lacks second {second}")
        elif value_number(stored) != entry.base_offset and not (
            is_first and value_number(stored) < entry.base_offset and self._row.raft_start > 1
        ):
            self._report.problem(f"the time index has offset {value_number(stored)} for second {second}")

    def _surplus(self, what: str, of: str) -> Callable[[bytes, bytes], None]:
        def told(key: bytes, _value: bytes) -> None:
            self._report.problem(
                f"there is a {what} for {of} {pair_number(key, self._row.generation)}, which the log lacks"
            )

        return told

    def _surplus_second(self, key: bytes, value: bytes) -> None:
        if value_number(value) >= self._row.anchor.offset:
            self._report.problem(f"the time index has second {pair_number(key, self._row.generation)}, the log has not")

    # -- derived state -----------------------------------------------------------------------------------------------

    def state(self) -> None:
        """What is stored of the state machine is what the log amounts to. Raises StorageError."""
        report, last = self._report, self._last
        end = self._row.raft_start - 1 if last is None else last.index
        if self._applied > end:
            report.problem(f"derived state is at log index {self._applied}, the log ends at {end}")
        if self._row.group == CONTROLLER_GROUP or not self._stored:
            return
        machine = new_machine(self._row.kind)
        try:
            machine.restore([(kind, key, value) for (kind, key), value in self._stored.items()])
        except CorruptState as error:
            report.problem(f"derived state cannot be read: {error}")
            return
        if self._at_applied is not None and machine.next_offset != self._at_applied.next_offset:
            report.problem(
                f"derived state is at offset {machine.next_offset}, the log has {self._at_applied.next_offset} there"
            )
        if not self._replays:
            report.notes.append("producers' state was not compared: the log no longer goes back to its first entry")
            return
        replayed = {(kind, key): value for kind, key, value in self._machine.take_rows() if value is not None}
        if self._machine.applied_index == self._applied and replayed != self._stored:
            kind, key = min(key for key, _ in replayed.items() ^ self._stored.items())
            report.problem(f"derived state is not what a replay gives: {kind.name.lower()} {key.hex()}")

    def _replay(self, entry: LogEntry) -> None:
        until = self._row.commit_index if self._row.group == CONTROLLER_GROUP else self._applied
        if not self._replays or entry.index > until:
            return
        try:
            self._machine.apply(entry)
        except (PoisonEntry, AssertionError) as error:
            self._replays = False
            self._report.problem(f"the log cannot be replayed: {error}")

    def _read_state(self) -> dict[tuple[StateKind, bytes], bytes]:
        try:
            return dict(self._state_rows())
        except StorageError as error:
            self._report.problem(f"derived state: {error}")
            return {}

    def _state_rows(self) -> Iterator[tuple[tuple[StateKind, bytes], bytes]]:
        for kind in StateKind:
            for key, value in scan_state(self._database, self._row.generation, kind):
                yield (kind, key), value

    def _applied_index(self) -> LogIndex:
        machine = new_machine(self._row.kind)
        applied = [(kind, key, value) for (kind, key), value in self._stored.items() if kind is StateKind.APPLIED]
        try:
            machine.restore(applied)
        except CorruptState:
            return LogIndex(0)
        return machine.applied_index

    # -- the row -----------------------------------------------------------------------------------------------------

    def _check_membership(self, entry: LogEntry) -> None:
        noted = self._memberships.get(entry.index)
        if noted is None:
            return
        try:
            same = entry.kind is EntryKind.MEMBERSHIP and decode_membership(entry.inline) == noted
        except CorruptEntry:
            same = False
        if not same:
            self._report.problem(f"the replica's row has another configuration for entry {entry.index} than the log")

    def row(self) -> None:
        """Term, commit index and configurations against the log."""
        row, report, last = self._row, self._report, self._last
        if last is None:
            return
        if row.hard_state.term < last.term:
            report.problem(f"the replica's term is {row.hard_state.term}, its log has entries of term {last.term}")
        if row.commit_index > last.index:
            report.problem(f"entries up to {row.commit_index} were committed, the log ends at {last.index}")
        for index in self._memberships:
            if index > last.index:
                report.problem(f"the replica's row has a configuration of entry {index}, the log ends at {last.index}")
