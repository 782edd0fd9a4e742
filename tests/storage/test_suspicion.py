"""A disk that lost synced writes must know it, and must go on knowing it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from raftmq.ids import BootCount, GroupId, StoreId, Term
from raftmq.ports import LostTail, PutReplica, ReplicaRow
from raftmq.storage import opening
from raftmq.storage.marker import Mark, Marker, read_marker
from raftmq.storage.rocks import RocksStore
from raftmq.storage.suspicion import UNKNOWN_GROUP, loss, next_boot, suspect
from tests.storage.build import GENERATION, NODE, LogBuilder, put, put_row, row
from tests.storage.conformance import read_all
from tests.storage.test_rocks_store import abandon

TERM = 6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


def used(path: Path, *, rounds: int = 50) -> LogBuilder:
    """A node that has appended for a while in two groups, and was killed when idle."""
    store = RocksStore(path, node=NODE)
    log = LogBuilder()
    store.write([put_row(term=TERM), put_row(group=8, generation=9, term=2)])
    for _ in range(rounds):
        store.write([put([log.data(payload=bytes(500))])])
        store.sync()
    store.settle()
    abandon(store)
    return log


def write_ahead_log(path: Path) -> Path:
    return max((path / "db").glob("*.log"), key=lambda file: file.stat().st_size)


def flip_the_middle(path: Path) -> None:
    file = write_ahead_log(path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_the_end(path: Path) -> None:
    file = write_ahead_log(path)
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size * 9 // 10)


def delete_the_log(path: Path) -> None:
    write_ahead_log(path).unlink()


DAMAGES = [flip_the_middle, cut_the_end, delete_the_log]


def assert_suspect(rows: list[ReplicaRow], term: int) -> None:
    for found in rows:
        assert found.suspect
        assert found.hard_state.term == term
        assert found.hard_state.vote is None


# -- the decision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "boot, sequence, lost",
    [(3, 100, False), (3, 101, False), (4, 100, False), (3, 99, True), (4, 99, True), (2, 100, True), (2, 500, True)],
)
def test_a_loss_is_fewer_writes_or_fewer_boots_than_were_marked(boot: int, sequence: int, lost: bool) -> None:
    mark = Mark(BootCount(3), 100, Term(1), 0)
    assert (loss(mark, BootCount(boot), sequence) is not None) is lost


def test_terms_rise_above_everything_that_is_known() -> None:
    rows = [row(group=2, generation=1, term=4)]
    mark = Mark(BootCount(1), 9, Term(7), 12)
    before = LostTail(GroupId(30), Term(20))
    assert suspect(rows, None, None).lost == LostTail(UNKNOWN_GROUP, Term(5))
    assert suspect(rows, mark, None).lost == LostTail(GroupId(11), Term(8))
    assert suspect(rows, mark, before).lost == LostTail(GroupId(30), Term(21))
    assert suspect([], mark, None).lost == LostTail(GroupId(11), Term(8))
    assert_suspect(list(suspect(rows, mark, before).rows), 21)


def test_a_boot_count_is_never_used_twice() -> None:
    mark = Mark(BootCount(7), 9, Term(1), 0)
    assert next_boot(None, BootCount(3)) == 4
    assert next_boot(mark, BootCount(3)) == 8
    assert next_boot(mark, BootCount(9)) == 10


# -- on a real disk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_write_ahead_log_makes_the_disk_suspect(path: Path, damage: Callable[[Path], None]) -> None:
    used(path)
    damage(path)
    store = RocksStore(path, node=NODE)
    assert len(read_all(store)) < 50
    assert store.identity.suspect
    assert "synced writes" in (store.suspect_reason or "")
    assert store.identity.lost is not None
    assert store.identity.lost.group == 8
    assert store.identity.lost.term == TERM + 1
    assert_suspect(store.replicas(), TERM + 1)
    store.close()


def test_an_undamaged_disk_is_not_suspect(path: Path) -> None:
    log = used(path)
    store = RocksStore(path, node=NODE)
    assert read_all(store) == log.entries
    assert not store.identity.suspect
    assert store.suspect_reason is None
    assert [row.suspect for row in store.replicas()] == [False, False]
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda marker: marker.unlink(),
        lambda marker: marker.write_bytes(b""),
        lambda marker: marker.write_bytes(bytes(8192)),
        lambda marker: marker.write_bytes(marker.read_bytes().replace(b"RMQM", b"RMQX")),
    ],
)
def test_without_a_marker_nothing_is_believed(path: Path, damage: Callable[[Path], None]) -> None:
    log = used(path)
    damage(path / "marker")
    store = RocksStore(path, node=NODE)
    assert store.identity.suspect
    assert "marker" in (store.suspect_reason or "")
    assert store.identity.lost is not None
    assert store.identity.lost.group == UNKNOWN_GROUP
    assert_suspect(store.replicas(), TERM + 1)
    assert read_all(store) == log.entries
    store.close()
    again = RocksStore(path, node=NODE)
    assert not again.identity.suspect
    assert_suspect(again.replicas(), TERM + 1)
    again.close()


def test_the_marker_of_another_disk_is_no_marker(path: Path) -> None:
    used(path)
    _, mark = read_marker(path / "marker")
    Marker(path / "marker", StoreId(12345), mark).close()
    store = RocksStore(path, node=NODE)
    assert store.suspect_reason == "the tail marker belongs to another disk"
    assert_suspect(store.replicas(), TERM + 1)
    store.close()


def test_a_database_put_back_from_an_old_copy_is_suspect(path: Path, tmp_path: Path) -> None:
    used(path)
    shutil.copytree(path / "db", tmp_path / "copy")
    store = RocksStore(path, node=NODE)
    boot = store.identity.boot_count
    store.close()
    shutil.rmtree(path / "db")
    shutil.copytree(tmp_path / "copy", path / "db")
    store = RocksStore(path, node=NODE)
    assert store.identity.suspect
    assert store.identity.boot_count == boot + 1
    store.close()


def test_a_row_that_was_lost_is_remembered_by_its_group(path: Path) -> None:
    used(path)
    delete_the_log(path)
    store = RocksStore(path, node=NODE)
    assert store.replicas() == []
    assert store.identity.lost is not None
    assert (store.identity.lost.group, store.identity.lost.term) == (GroupId(8), Term(TERM + 1))
    abandon(store)
    again = RocksStore(path, node=NODE)
    assert not again.identity.suspect
    assert again.identity.lost == store.identity.lost
    again.close()


@pytest.mark.parametrize("damage", [flip_the_middle, cut_the_end])
def test_rows_stay_suspect_until_they_are_cleared(path: Path, damage: Callable[[Path], None]) -> None:
    used(path)
    damage(path)
    RocksStore(path, node=NODE).close()
    store = RocksStore(path, node=NODE)
    assert not store.identity.suspect
    rows = store.replicas()
    assert_suspect(rows, TERM + 1)
    store.write([PutReplica(replace(rows[0], suspect=False))])
    store.sync()
    abandon(store)
    again = RocksStore(path, node=NODE)
    assert [row.suspect for row in again.replicas()] == [False, *[True] * (len(rows) - 1)]
    assert again.identity.lost == store.identity.lost
    again.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_crash_between_the_suspect_rows_and_the_new_marker(
    path: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    used(path)
    damage(path)

    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(opening, "Marker", crash)
        with pytest.raises(Crash):
            RocksStore(path, node=NODE)
    store = RocksStore(path, node=NODE)
    rows = store.replicas()
    assert rows or damage is delete_the_log
    assert_suspect(rows, rows[0].hard_state.term if rows else 0)
    assert all(row.hard_state.term > TERM for row in rows)
    assert store.identity.lost is not None
    store.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_crash_before_the_suspect_rows_are_written(
    path: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    used(path)
    damage(path)

    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("raftmq.storage.database.Database.write", crash)
        with pytest.raises(Crash):
            RocksStore(path, node=NODE)
    store = RocksStore(path, node=NODE)
    assert store.identity.suspect
    assert_suspect(store.replicas(), TERM + 1)
    store.close()


def test_the_marker_is_never_ahead_of_the_log(path: Path) -> None:
    store = RocksStore(path, node=NODE)
    log = LogBuilder()
    for _ in range(20):
        store.write([put([log.data()])])
        _, mark = read_marker(path / "marker")
        assert mark.sequence < store._database.sequence
        store.sync()
    store.close()
    _, mark = read_marker(path / "marker")
    assert mark.sequence > 0


def test_the_marker_knows_a_term_and_a_group_before_they_can_be_told_to_anybody(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RocksStore(path, node=NODE)
    seen: list[Mark] = []
    sync = store._database.sync

    def spy() -> None:
        seen.append(read_marker(path / "marker")[1])
        assert not store._marker._pending
        sync()

    monkeypatch.setattr(store._database, "sync", spy)
    for term, group in ((3, 0), (3, 4), (7, 1)):
        store.write([put_row(group=group, generation=group + 1, term=term)])
        store.sync()
    assert [(mark.term, mark.last_group) for mark in seen] == [(3, 0), (3, 4), (7, 4)]
    store.close()


def test_what_was_lost_is_never_forgotten_and_only_grows(path: Path) -> None:
    used(path)
    cut_the_end(path)
    store = RocksStore(path, node=NODE)
    log = LogBuilder()
    store.write([put_row(group=20, generation=30, term=40), put([log.data()], generation=30)])
    store.sync()
    store.settle()
    abandon(store)
    delete_the_log(path)
    again = RocksStore(path, node=NODE)
    assert again.identity.lost is not None
    assert (again.identity.lost.group, again.identity.lost.term) == (GroupId(20), Term(41))
    assert GENERATION not in {row.generation for row in again.replicas() if not row.suspect}
    again.close()
