"""What every store must do, run on each of them: the fake is trusted because it passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import pytest

from raftmq.ids import Generation, LogIndex, Offset, Term
from raftmq.ports import (
    PutNode,
    PutReplica,
    StateKind,
    StorageError,
    Store,
    TruncateFrom,
)
from raftmq.raft.types import HardState
from raftmq.records.entry import LogEntry
from tests.storage.build import (
    EVERYTHING,
    GENERATION,
    GROUP,
    LogBuilder,
    drop,
    mixed_log,
    put,
    put_row,
    put_state,
    replica_id,
    row,
)


class Harness(Protocol):
    """One disk, and the ways in which a process on it ends."""

    store: Store

    def restart(self) -> Store:
        """Close and open."""

    def kill(self) -> Store:
        """End without close, and open."""


def read_all(store: Store, first: int = 1, generation: int = GENERATION) -> list[LogEntry]:
    """The whole log by its headers' length."""
    indexes = [entry.index for entry in store.scan_headers(Generation(generation), LogIndex(first))]
    if not indexes:
        return []
    return store.read_entries(Generation(generation), LogIndex(first), indexes[-1], EVERYTHING)


def headers(entries: list[LogEntry]) -> list[LogEntry]:
    return [replace(entry, payload=b"") for entry in entries]


def offsets(store: Store, offset: int, end: int = 1 << 40, max_bytes: int = EVERYTHING) -> list[int]:
    return [batch.base_offset for batch in store.read_batches(GENERATION, Offset(offset), Offset(end), max_bytes)]


class StoreConformance:
    @pytest.fixture
    def harness(self) -> Iterator[Harness]:
        raise NotImplementedError

    @pytest.fixture
    def store(self, harness: Harness) -> Store:
        return harness.store

    # -- entries ---------------------------------------------------------------------------------------------------

    def test_an_empty_store_has_nothing(self, store: Store) -> None:
        assert store.replicas() == []
        assert list(store.scan_headers(GENERATION, LogIndex(1))) == []
        assert store.read_batches(GENERATION, Offset(0), Offset(10), EVERYTHING) == []
        assert list(store.state(GENERATION, StateKind.APPLIED)) == []
        assert store.node_value("cluster") is None

    def test_entries_come_back_as_they_were_put(self, store: Store) -> None:
        log = mixed_log(10)
        store.write([put(log.entries)])
        assert store.read_entries(GENERATION, LogIndex(1), LogIndex(10), EVERYTHING) == log.entries
        assert store.read_entries(GENERATION, LogIndex(4), LogIndex(6), EVERYTHING) == log.entries[3:6]
        assert store.read_entries(GENERATION, LogIndex(4), LogIndex(3), EVERYTHING) == []

    def test_an_empty_payload_is_a_payload(self, store: Store) -> None:
        log = LogBuilder()
        log.data(payload=b"")
        store.write([put(log.entries)])
        assert read_all(store) == log.entries
        (batch,) = store.read_batches(GENERATION, Offset(0), Offset(3), EVERYTHING)
        assert batch.payload == b""

    def test_a_log_may_start_anywhere(self, store: Store) -> None:
        log = mixed_log(5, first=1000, offset=50_000)
        store.write([put(log.entries)])
        assert read_all(store, 1000) == log.entries
        assert offsets(store, 50_000) == [50_000, 50_003, 50_006]

    def test_entries_of_several_writes_make_one_log(self, store: Store) -> None:
        log = mixed_log(10)
        for at in range(0, 10, 2):
            store.write([put(log.entries[at : at + 2])])
        assert read_all(store) == log.entries

    def test_reading_stops_at_max_bytes_but_never_returns_nothing(self, store: Store) -> None:
        log = LogBuilder()
        for _ in range(4):
            log.data(payload=bytes(1000))
        size = log.entries[0].size
        store.write([put(log.entries)])

        def indexes(max_bytes: int) -> list[int]:
            return [e.index for e in store.read_entries(GENERATION, LogIndex(1), LogIndex(4), max_bytes)]

        assert indexes(0) == [1]
        assert indexes(2 * size - 1) == [1]
        assert indexes(2 * size) == [1, 2]
        assert indexes(4 * size) == [1, 2, 3, 4]

    @pytest.mark.parametrize("first, last", [(1, 6), (6, 6), (0, 3), (7, 9)])
    def test_a_missing_entry_is_an_error(self, store: Store, first: int, last: int) -> None:
        store.write([put(mixed_log(5).entries)])
        with pytest.raises(StorageError):
            store.read_entries(GENERATION, LogIndex(first), LogIndex(last), EVERYTHING)

    def test_a_gap_or_an_overlap_is_a_bug_of_the_caller(self, store: Store) -> None:
        log = mixed_log(6)
        store.write([put(log.entries[:3])])
        for entries in (log.entries[4:], log.entries[2:4], [log.entries[3], log.entries[5]]):
            with pytest.raises(AssertionError):
                store.write([put(entries)])

    def test_headers_have_no_payload(self, store: Store) -> None:
        log = mixed_log(10)
        store.write([put(log.entries)])
        assert list(store.scan_headers(GENERATION, LogIndex(1))) == headers(log.entries)
        assert list(store.scan_headers(GENERATION, LogIndex(8))) == headers(log.entries[7:])
        assert list(store.scan_headers(GENERATION, LogIndex(11))) == []

    def test_a_scan_that_would_start_behind_a_gap_is_an_error(self, store: Store) -> None:
        store.write([put(mixed_log(3, first=5).entries)])
        with pytest.raises(StorageError, match="entry 5 where 4 should be"):
            list(store.scan_headers(GENERATION, LogIndex(4)))

    def test_a_broken_chain_is_detected(self, store: Store) -> None:
        log = mixed_log(4)
        stranger = mixed_log(3)
        stranger.noop(term=9)
        stranger.noop(term=9)
        store.write([put(log.entries), put([stranger.entries[4]])])
        with pytest.raises(StorageError, match="chain of hashes breaks at entry 5"):
            list(store.scan_headers(GENERATION, LogIndex(1)))
        with pytest.raises(StorageError, match="chain of hashes breaks at entry 5"):
            store.read_entries(GENERATION, LogIndex(4), LogIndex(5), EVERYTHING)

    def test_a_scan_sees_the_log_as_it_was_when_it_was_asked_for(self, store: Store) -> None:
        log = mixed_log(6)
        store.write([put(log.entries[:4]), put_state(b"a", b"1")])
        entries = store.scan_headers(GENERATION, LogIndex(1))
        rows = store.state(GENERATION, StateKind.PRODUCER)
        store.write([put(log.entries[4:]), put_state(b"a", b"2"), put_state(b"b", b"2")])
        assert list(entries) == headers(log.entries[:4])
        assert list(rows) == [(b"a", b"1")]

    # -- truncation ------------------------------------------------------------------------------------------------

    def test_truncation_then_other_entries(self, store: Store) -> None:
        log = mixed_log(10)
        store.write([put(log.entries), put_row()])
        op = log.cut(6)
        log.noop(term=2)
        log.data(count=7, term=2, wall_ms=9000)
        store.write([op, put(log.entries[5:])])
        assert read_all(store) == log.entries
        assert offsets(store, 0) == [e.base_offset for e in log.entries if e.count]
        assert [b.term for b in store.read_batches(GENERATION, Offset(9), Offset(99), EVERYTHING)] == [2]

    def test_truncation_to_nothing(self, store: Store) -> None:
        log = mixed_log(5)
        store.write([put(log.entries)])
        store.write([TruncateFrom(GENERATION, LogIndex(1), Offset(0))])
        assert read_all(store) == []
        assert offsets(store, 0) == []
        store.write([put(log.entries)])
        assert read_all(store) == log.entries

    def test_truncation_behind_the_end_does_nothing(self, store: Store) -> None:
        log = mixed_log(5)
        store.write([put(log.entries), log.cut(6)])
        store.write([log.cut(6)])
        assert read_all(store) == log.entries
        log.noop()
        store.write([put(log.entries[5:])])
        assert read_all(store) == log.entries

    def test_a_batch_may_append_truncate_and_append_again(self, store: Store) -> None:
        log = mixed_log(4)
        store.write([put(log.entries)])
        log.data(term=2)
        log.data(term=2)
        ops = [put(log.entries[4:])]
        cut = log.cut(6)
        log.data(term=3, count=1)
        both = put(log.entries[5:])
        deeper = log.cut(3)
        log.noop(term=4)
        log.data(term=4, count=9)
        store.write([*ops, cut, both, deeper, put(log.entries[2:])])
        assert read_all(store) == log.entries
        assert offsets(store, 0) == [e.base_offset for e in log.entries if e.count]

    def test_truncation_of_one_log_leaves_its_neighbours_alone(self, store: Store) -> None:
        logs = {generation: mixed_log(6) for generation in (6, 7, 8)}
        store.write([put(log.entries, generation) for generation, log in logs.items()])
        store.write([logs[7].cut(2)])
        for generation, log in logs.items():
            assert read_all(store, generation=generation) == log.entries

    # -- batches ---------------------------------------------------------------------------------------------------

    def test_batches_have_what_a_reader_needs(self, store: Store) -> None:
        log = LogBuilder()
        log.noop(term=3)
        entry = log.data(count=5, term=3, wall_ms=1234, payload=b"records")
        store.write([put(log.entries)])
        (batch,) = store.read_batches(GENERATION, Offset(0), Offset(5), EVERYTHING)
        assert (batch.base_offset, batch.next_offset, batch.count) == (0, 5, 5)
        assert (batch.index, batch.term, batch.wall_ms) == (2, 3, 1234)
        assert (batch.header, batch.payload) == (entry.inline, b"records")

    @pytest.mark.parametrize("offset, found", [(0, [0, 3, 6]), (2, [0, 3, 6]), (3, [3, 6]), (8, [6]), (9, [])])
    def test_reading_starts_with_the_batch_that_holds_the_offset(
        self, store: Store, offset: int, found: list[int]
    ) -> None:
        store.write([put(mixed_log(4).entries)])
        assert offsets(store, offset) == found

    @pytest.mark.parametrize("end, found", [(0, []), (2, []), (3, [0]), (8, [0, 3]), (9, [0, 3, 6])])
    def test_no_batch_reaches_past_the_end(self, store: Store, end: int, found: list[int]) -> None:
        store.write([put(mixed_log(4).entries)])
        assert offsets(store, 0, end) == found

    def test_batches_stop_at_max_bytes_but_one_always_comes(self, store: Store) -> None:
        log = LogBuilder()
        for _ in range(3):
            log.data(payload=bytes(1000))
        store.write([put(log.entries)])
        size = 1000 + len(log.entries[0].inline)
        assert offsets(store, 0, max_bytes=0) == [0]
        assert offsets(store, 4, max_bytes=2 * size - 1) == [3]
        assert offsets(store, 0, max_bytes=2 * size) == [0, 3]

    @pytest.mark.parametrize(
        "wall_ms, found",
        [
            (0, 0), (5000, 0), (5001, 3), (5400, 3), (5401, 6), (5999, 6), (6000, 9), (6001, 12), (8999, 12),
            (9000, 12), (9001, 15), (9002, None), (2**50, None),
        ],
    )  # fmt: skip
    def test_a_time_leads_to_the_first_batch_appended_then_or_later(
        self, store: Store, wall_ms: int, found: int | None
    ) -> None:
        log = LogBuilder()
        for wall in (5000, 5400, 5999):
            log.data(wall_ms=wall)
        log.noop(wall_ms=5999)
        for wall in (6000, 9000, 9001):
            log.data(wall_ms=wall)
        store.write([put(log.entries[:2])])
        store.write([put(log.entries[2:])])
        assert store.offset_at(GENERATION, wall_ms) == found

    def test_batches_of_the_same_millisecond_are_not_skipped(self, store: Store) -> None:
        log = LogBuilder()
        for _ in range(4):
            log.data(wall_ms=5000)
        store.write([put(log.entries)])
        assert store.offset_at(GENERATION, 5000) == 0

    def test_a_time_leads_nowhere_in_a_log_without_records(self, store: Store) -> None:
        log = LogBuilder()
        log.noop(wall_ms=5000)
        store.write([put(log.entries)])
        assert store.offset_at(GENERATION, 0) is None
        assert store.offset_at(Generation(99), 0) is None

    def test_batches_below_the_first_are_not_skipped_silently(self, store: Store) -> None:
        store.write([put(mixed_log(5, offset=100).entries)])
        with pytest.raises(StorageError, match="no batch holds offset 99"):
            offsets(store, 99)

    # -- generations and replicas ----------------------------------------------------------------------------------

    def test_generations_never_mix(self, store: Store) -> None:
        logs = {generation: mixed_log(8, offset=generation) for generation in (0, 1, 255, 256, 2**63 - 1)}
        for generation, log in logs.items():
            store.write([put(log.entries, generation)])
        for generation, log in logs.items():
            assert read_all(store, generation=generation) == log.entries
            batches = store.read_batches(Generation(generation), Offset(generation), Offset(2**63 + 99), EVERYTHING)
            assert [b.payload for b in batches] == [e.payload for e in log.entries if e.count]

    def test_replica_rows_come_by_group(self, store: Store) -> None:
        rows = [row(group, group + 10, term=group + 1) for group in (300, 0, 2, 256)]
        store.write([PutReplica(r) for r in rows])
        assert store.replicas() == sorted(rows, key=lambda r: r.group)
        changed = replace(
            rows[1],
            hard_state=HardState(Term(9), None),
            memberships=(
                *rows[1].memberships,
                (LogIndex(4), replace(rows[1].memberships[0][1], learners=frozenset({replica_id(9)}))),
            ),
            commit_index=LogIndex(4),
            suspect=True,
        )
        store.write([PutReplica(changed)])
        assert store.replicas()[0] == changed

    def test_a_dropped_replica_leaves_nothing(self, store: Store) -> None:
        log = mixed_log(8)
        store.write([put_row(), put(log.entries), put_state(b"p", b"1")])
        store.write([put_row(6, 8), put(log.entries, 8)])
        store.write([drop()])
        assert [r.group for r in store.replicas()] == [6]
        assert read_all(store) == []
        assert offsets(store, 0) == []
        assert list(store.state(GENERATION, StateKind.PRODUCER)) == []
        assert read_all(store, generation=8) == log.entries

    def test_dropping_an_old_generation_keeps_the_row_of_the_new_one(self, store: Store) -> None:
        store.write([put_row(GROUP, 7), put(mixed_log(3).entries, 7)])
        store.write([put_row(GROUP, 9), put(mixed_log(4).entries, 9)])
        store.write([drop(GROUP, 7)])
        assert [r.generation for r in store.replicas()] == [9]
        assert len(read_all(store, generation=9)) == 4

    def test_a_batch_may_drop_what_it_put_and_put_again(self, store: Store) -> None:
        log = mixed_log(6)
        store.write([put_row(), put(log.entries[:2]), put_state(b"old", b"1")])
        store.write([put(log.entries[2:]), drop(), put_row(term=4), put(log.entries[:3]), put_state(b"new", b"2")])
        assert [r.hard_state.term for r in store.replicas()] == [4]
        assert read_all(store) == log.entries[:3]
        assert list(store.state(GENERATION, StateKind.PRODUCER)) == [(b"new", b"2")]

    # -- state and node rows ---------------------------------------------------------------------------------------

    def test_state_rows_come_by_key_and_kind(self, store: Store) -> None:
        store.write([put_state(key, key * 2) for key in (b"b", b"", b"a\xff", b"a")])
        store.write([put_state(b"a", b"applied", StateKind.APPLIED)])
        rows = [(b"", b""), (b"a", b"aa"), (b"a\xff", b"a\xffa\xff"), (b"b", b"bb")]
        assert list(store.state(GENERATION, StateKind.PRODUCER)) == rows
        assert list(store.state(GENERATION, StateKind.APPLIED)) == [(b"a", b"applied")]

    def test_the_last_of_several_changes_of_a_row_wins(self, store: Store) -> None:
        store.write([put_state(b"k", b"1"), put_state(b"k", None), put_state(b"k", b"2"), put_state(b"x", None)])
        assert list(store.state(GENERATION, StateKind.PRODUCER)) == [(b"k", b"2")]
        store.write([put_state(b"k", b"3"), put_state(b"k", None)])
        assert list(store.state(GENERATION, StateKind.PRODUCER)) == []

    def test_node_rows(self, store: Store) -> None:
        store.write([PutNode("cluster", b"one"), PutNode("formation", b"")])
        store.write([PutNode("cluster", b"two")])
        assert store.node_value("cluster") == b"two"
        assert store.node_value("formation") == b""
        with pytest.raises(AssertionError):
            store.write([PutNode("\0identity", b"forged")])

    # -- the life of a process -------------------------------------------------------------------------------------

    def test_everything_is_there_after_a_restart(self, harness: Harness) -> None:
        log = mixed_log(9)
        harness.store.write([put_row(), put(log.entries), put_state(b"k", b"v"), PutNode("cluster", b"x")])
        harness.store.sync()
        for start in (harness.restart, harness.kill):
            store = start()
            assert store.replicas() == [row()]
            assert read_all(store) == log.entries
            assert offsets(store, 0) == [e.base_offset for e in log.entries if e.count]
            assert list(store.state(GENERATION, StateKind.PRODUCER)) == [(b"k", b"v")]
            assert store.node_value("cluster") == b"x"
        log.data(wall_ms=10_000)
        harness.store.write([put(log.entries[9:])])
        assert read_all(harness.store) == log.entries

    def test_a_restart_keeps_the_disk_and_counts_the_boot(self, harness: Harness) -> None:
        first = harness.store.identity
        assert (first.boot_count, first.suspect, first.lost) == (1, False, None)
        assert 0 < first.store_id < 2**63
        second = harness.restart().identity
        third = harness.kill().identity
        assert [second.boot_count, third.boot_count] == [2, 3]
        assert {second.store_id, third.store_id} == {first.store_id}
        assert not second.suspect
        assert not third.suspect

    def test_a_truncated_log_goes_on_after_a_restart(self, harness: Harness) -> None:
        log = mixed_log(6)
        harness.store.write([put(log.entries)])
        harness.store.write([log.cut(4)])
        harness.store.sync()
        store = harness.kill()
        log.data(term=2)
        store.write([put(log.entries[3:])])
        assert read_all(store) == log.entries

    # -- trimming --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("kept_from", range(1, 12))
    def test_a_trimmed_log_has_its_end_only(self, harness: Harness, kept_from: int) -> None:
        log = mixed_log(11)
        harness.store.write([put(log.entries)])
        harness.store.write([log.trimmed(kept_from)])
        harness.store.sync()
        for is_reopened in (False, True):
            store = harness.kill() if is_reopened else harness.store
            assert list(store.scan_headers(GENERATION, LogIndex(kept_from))) == headers(log.entries[kept_from - 1 :])
            assert read_all(store, kept_from) == log.entries[kept_from - 1 :]
            kept = [e.base_offset for e in log.entries[kept_from - 1 :] if e.count]
            assert offsets(store, log.start(kept_from).offset) == kept
            for index in range(1, kept_from):
                with pytest.raises(StorageError):
                    store.read_entries(GENERATION, LogIndex(index), LogIndex(11), EVERYTHING)

    def test_a_read_below_what_is_trimmed_is_an_error_and_never_a_jump(self, store: Store) -> None:
        log = mixed_log(11)
        store.write([put(log.entries), put_row()])
        store.write([log.trimmed(7)])
        with pytest.raises(StorageError):
            offsets(store, log.start(7).offset - 1)

    def test_trims_follow_each_other_and_a_trimmed_log_goes_on(self, harness: Harness) -> None:
        log = mixed_log(11)
        store = harness.store
        store.write([put(log.entries)])
        for begin, end in ((1, 3), (3, 3), (3, 8), (8, 11)):
            store.write([log.trimmed(end, begin)])
        log.data(wall_ms=99_000)
        store.write([put(log.entries[11:])])
        assert read_all(store, 11) == log.entries[10:]
        store.write([log.cut(12)])
        log.data(term=2, wall_ms=99_500)
        store.write([put(log.entries[11:])])
        store.sync()
        assert read_all(harness.kill(), 11) == log.entries[10:]

    def test_a_trim_spares_other_generations_and_derived_state(self, store: Store) -> None:
        log = mixed_log(9)
        store.write([put(log.entries), put(log.entries, GENERATION - 1), put(log.entries, GENERATION + 1)])
        store.write([put_state(b"k", b"v"), log.trimmed(9)])
        for generation in (GENERATION - 1, GENERATION + 1):
            assert read_all(store, 1, generation) == log.entries
        assert list(store.state(GENERATION, StateKind.PRODUCER)) == [(b"k", b"v")]

    def test_nothing_works_after_close(self, harness: Harness) -> None:
        store = harness.store
        store.write([put(mixed_log(3).entries)])
        store.close()
        store.close()
        calls: list[Callable[[], object]] = [
            lambda: store.write([]),
            store.sync,
            store.settle,
            store.replicas,
            lambda: store.node_value("cluster"),
            lambda: list(store.scan_headers(GENERATION, LogIndex(1))),
            lambda: store.read_entries(GENERATION, LogIndex(1), LogIndex(1), 1),
            lambda: store.read_batches(GENERATION, Offset(0), Offset(1), 1),
            lambda: list(store.state(GENERATION, StateKind.APPLIED)),
        ]
        for call in calls:
            with pytest.raises(StorageError):
                call()

    def test_sync_and_settle_without_writes_are_harmless(self, harness: Harness) -> None:
        for _ in range(3):
            harness.store.sync()
            harness.store.settle()
        assert not harness.kill().identity.suspect
