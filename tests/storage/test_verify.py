"""What is whole is called whole, and every bit that matters is missed when it is another one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raftmq.ids import Generation, LogIndex, Offset, Term
from raftmq.ports import Anchor, PutEntries, PutReplica, PutState, StateKind, StorageRefused
from raftmq.raft.types import HardState
from raftmq.storage import rows
from raftmq.storage.keys import IDENTITY_KEY, Family, group_key, pair_key
from raftmq.storage.options import Tuning
from raftmq.storage.rocks import RocksStore
from raftmq.storage.verify import Report, Severity, verify
from tests.storage.build import NODE
from tests.storage.whole_disk import GROUPS, TRIMMED, TRIMMED_TO, make_disk, real_log

GENERATION = Generation(2)
GROUP = GROUPS[0]


@pytest.fixture(scope="module")
def flushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disks") / "flushed"
    make_disk(path)
    return path


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("disks") / "killed"
    make_disk(path, flushed=False)
    return path


def copied(source: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    shutil.copytree(source, target)
    target.chmod(0o700)
    return target


def errors(report: Report) -> list[str]:
    return [f"{found.place}: {found.text}" for found in report.findings if found.severity is Severity.ERROR]


def notes(report: Report) -> list[str]:
    return [f"{found.place}: {found.text}" for found in report.findings if found.severity is Severity.NOTE]


# -- whole -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["flushed", "killed"])
def test_a_whole_disk_is_called_whole_and_left_as_it_is(
    state: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = copied(request.getfixturevalue(state), tmp_path)
    before = {file.name: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    report = verify(path)
    assert errors(report) == []
    assert report.is_sound
    assert {file.name: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert report.identity is not None
    assert (report.identity.node, report.identity.boot_count) == (NODE, 1)
    summary = [(one.group, one.first_index, one.next_index, one.next_offset) for one in report.replicas]
    assert summary == [(0, 1, 2, 0), (GROUP, 1, 41, 108), (TRIMMED, TRIMMED_TO, 41, 108)]
    assert notes(report) == [
        f"group {TRIMMED}: producers' state was not compared: the log no longer goes back to its first entry"
    ]


def test_a_killed_node_with_half_a_record_at_its_end_is_whole(killed: Path, tmp_path: Path) -> None:
    path = copied(killed, tmp_path)
    wal = largest(path, "*.log")
    content = wal.read_bytes().rstrip(b"\0")
    wal.write_bytes(content + content[:40])
    report = verify(path)
    assert report.is_sound
    assert any("does not end with a whole record" in note for note in notes(report))


def test_what_is_left_over_is_noted(flushed: Path, tmp_path: Path) -> None:
    path = copied(flushed, tmp_path)
    write(path, PutEntries(Generation(9), tuple(real_log(3))))
    report = verify(path)
    assert report.is_sound
    assert "database: generation 9 belongs to no replica: left over in log, payload, offsets, times" in notes(report)


def test_half_a_snapshot_is_nobodys_damage(flushed: Path, tmp_path: Path) -> None:
    path = copied(flushed, tmp_path)
    store = RocksStore(path, node=NODE)
    row = replace(store.replicas()[-1], installing=Generation(9))
    store.write([PutReplica(row), PutEntries(Generation(9), tuple(real_log(3)))])
    store.close()
    report = verify(path)
    assert report.is_sound
    assert any("a snapshot was on its way" in note for note in notes(report))
    assert not any("belongs to no replica" in note for note in notes(report))


def test_others_may_not_read_it_and_that_is_noted(flushed: Path, tmp_path: Path) -> None:
    path = copied(flushed, tmp_path)
    path.chmod(0o755)
    (path / "thesis.tex").write_text("a copy may hold more")
    report = verify(path)
    assert report.is_sound
    assert len([note for note in notes(report) if note.startswith("directory")]) == 2


# -- refused -----------------------------------------------------------------------------------------------------------


def test_what_is_no_data_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageRefused, match="there is no directory"):
        verify(tmp_path / "nothing")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StorageRefused, match="there is no directory"):
        verify(file)
    with pytest.raises(StorageRefused, match="not raftmq's"):
        verify(tmp_path)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["file"]


def test_a_link_is_refused(flushed: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(flushed)
    with pytest.raises(StorageRefused, match="not a link"):
        verify(tmp_path / "link")


def test_the_disk_of_a_running_node_is_refused(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "data", node=NODE)
    try:
        with pytest.raises(StorageRefused, match="in use by a running process"):
            verify(tmp_path / "data")
    finally:
        store.close()
    assert verify(tmp_path / "data").is_sound


@pytest.mark.parametrize("what", ["STORE_FORMAT", "REPLICA_FORMAT"])
def test_a_later_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    with monkeypatch.context() as later:
        later.setattr(rows, what, 9)
        make_disk(tmp_path / "data")
    with pytest.raises(StorageRefused, match="format 9, this version reads 1"):
        verify(tmp_path / "data")


# -- damaged -----------------------------------------------------------------------------------------------------------


def largest(path: Path, pattern: str) -> Path:
    return max(path.rglob(pattern), key=lambda file: file.stat().st_size)


def flip(file: Path, at: int, bit: int = 0x10) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= bit
    file.write_bytes(content)


def write(path: Path, *ops: Any) -> None:
    store = RocksStore(path, node=NODE)
    store.write(list(ops))
    store.close()


def tamper(path: Path, change: Callable[[RocksStore, Any], object]) -> None:
    """Change rows behind the store's back."""
    store = RocksStore(path, node=NODE)
    batch = store._database.batch()
    change(store, batch)
    store._database.write(batch)
    store.close()


SLICES = 6


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("pattern", ["*.sst", "*.blob"])
def test_a_flipped_bit_in_any_table_or_blob_file_is_found(
    flushed: Path, tmp_path: Path, pattern: str, part: int
) -> None:
    """In each file at another place; the footers and indexes at its end make the whole file unreadable."""
    for file in sorted(path.relative_to(flushed) for path in flushed.rglob(pattern)):
        path = copied(flushed, tmp_path / file.name)
        size = (path / file).stat().st_size
        flip(path / file, min(size - 1, size * (2 * part + 1) // (2 * SLICES)))
        report = verify(path)
        if report.is_sound:
            # Properties and statistics of a table may differ without anything being lost.
            assert everything(path) == everything(flushed), f"{file} was changed, and nobody noticed"


def everything(path: Path) -> list[tuple[str, bytes, bytes]]:
    """Every row of every family."""
    from raftmq.storage.database import Database

    database = Database(path / "db", Tuning(), create=False, read_only=True)
    try:
        rows = []
        for family in Family:
            with database.scan(family, b"", b"\xff" * 32) as cursor:
                rows += [(family.value, key, value) for key, value in cursor]
        return rows
    finally:
        database.close(flush=False)


@pytest.mark.parametrize("part", range(SLICES))
def test_a_flipped_bit_in_the_write_ahead_log_is_found(killed: Path, tmp_path: Path, part: int) -> None:
    path = copied(killed, tmp_path)
    wal = largest(path, "*.log")
    written = len(wal.read_bytes().rstrip(b"\0"))
    flip(wal, written * (2 * part + 1) // (2 * SLICES))
    report = verify(path)
    assert any("synced writes are missing" in error for error in errors(report)), errors(report)


def test_a_write_ahead_log_that_was_cut_or_is_gone_is_found(killed: Path, tmp_path: Path) -> None:
    path = copied(killed, tmp_path)
    wal = largest(path, "*.log")
    wal.write_bytes(wal.read_bytes()[: wal.stat().st_size // 2])
    assert any("synced writes are missing" in error for error in errors(verify(path)))
    wal.unlink()
    assert not verify(path).is_sound


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-*", "marker"])
def test_a_file_that_is_gone_is_found(flushed: Path, tmp_path: Path, name: str) -> None:
    path = copied(flushed, tmp_path)
    largest(path, name).unlink()
    report = verify(path)
    assert len(errors(report)) == 1
    assert errors(report)[0].startswith("marker" if name == "marker" else "database")


def test_one_slot_of_the_marker_may_be_torn_and_not_both(flushed: Path, tmp_path: Path) -> None:
    path = copied(flushed, tmp_path)
    flip(path / "marker", 4096 + 20)
    assert verify(path).is_sound
    assert any("slot 2" in note for note in notes(verify(path)))
    flip(path / "marker", 20)
    assert any("cannot be told" in error for error in errors(verify(path)))


def test_the_marker_of_another_disk_is_found(flushed: Path, killed: Path, tmp_path: Path) -> None:
    path = copied(flushed, tmp_path)
    shutil.copy(killed / "marker", path / "marker")
    assert any("it is of store" in error for error in errors(verify(path)))


ENTRIES = real_log(40, seed=GROUP)
KEY = pair_key(GENERATION, 5)
ROW = ENTRIES[4]
CASES: dict[str, tuple[Callable[[RocksStore, Any], object], str]] = {
    "missing entry": (lambda _, b: b.delete(Family.LOG, KEY), "the log holds entry 6 where 5 should be"),
    "entry of another index": (lambda _, b: b.put(Family.LOG, KEY, ENTRIES[5].row), "entry 5 holds entry 6"),
    "bad row checksum": (lambda _, b: b.put(Family.LOG, KEY, ROW.row[:-1] + b"\0"), "entry 5: row checksum"),
    "missing payload": (lambda _, b: b.delete(Family.PAYLOAD, KEY), "entry 5: its payload is missing"),
    "other payload": (lambda _, b: b.put(Family.PAYLOAD, KEY, b"x"), "entry 5: its payload fails its checksum"),
    "surplus payload": (
        lambda _, b: b.put(Family.PAYLOAD, pair_key(GENERATION, 77), b"x"),
        "there is a payload for entry 77, which the log lacks",
    ),
    "missing offset": (
        lambda _, b: b.delete(Family.OFFSETS, pair_key(GENERATION, ROW.base_offset)),
        f"offset {ROW.base_offset} is missing from the offset index",
    ),
    "other offset row": (
        lambda _, b: b.put(Family.OFFSETS, pair_key(GENERATION, ROW.base_offset), rows.encode_offset(ENTRIES[5])),
        f"the offset index says something else of offset {ROW.base_offset}",
    ),
    "wrong second": (
        lambda _, b: b.put(Family.TIMES, pair_key(GENERATION, 1_700_000_002), b"\0" * 7 + b"\x01"),
        "the time index has offset 1 for second 1700000002",
    ),
    "missing state": (
        lambda s, b: [b.delete(Family.STATE, key) for key in _producers(s)],
        "derived state is not what a replay gives: producer",
    ),
    "state beyond the log": (
        lambda _, b: [b.delete(Family.LOG, pair_key(GENERATION, index)) for index in (39, 40)],
        "derived state is at log index 40, the log ends at 38",
    ),
    "undecodable row": (lambda _, b: b.put(Family.RAFT, group_key(GROUP), b"\xff"), f"group {GROUP}: a replica's row"),
    "row of another group": (
        lambda s, b: b.put(Family.RAFT, group_key(GROUP), rows.encode_replica(s.replicas()[2])),
        f"its row is of group {TRIMMED}",
    ),
    "no identity": (lambda _, b: b.delete(Family.NODE, IDENTITY_KEY), "the identity row is missing"),
    "bad identity": (lambda _, b: b.put(Family.NODE, IDENTITY_KEY, b"\0\x01" + b"x" * 41), "identity row checksum"),
}


def _producers(store: RocksStore) -> list[bytes]:
    from raftmq.storage.keys import state_key

    return [state_key(GENERATION, StateKind.PRODUCER, key) for key, _ in store.state(GENERATION, StateKind.PRODUCER)]


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_damage_has_its_words(flushed: Path, tmp_path: Path, name: str) -> None:
    change, words = CASES[name]
    path = copied(flushed, tmp_path)
    tamper(path, change)
    found = errors(verify(path))
    assert any(words in error for error in found), found


def test_a_row_that_does_not_fit_its_log_is_found(flushed: Path, tmp_path: Path) -> None:
    path = copied(flushed, tmp_path)
    store = RocksStore(path, node=NODE)
    row = store.replicas()[1]
    store.write([PutReplica(replace(row, hard_state=HardState(Term(1)), commit_index=LogIndex(99)))])
    store.close()
    found = errors(verify(path))
    assert any("term is 1, its log has entries of term 3" in error for error in found)
    assert any("entries up to 99 were committed, the log ends at 40" in error for error in found)


def test_an_anchor_that_the_log_does_not_follow_is_found(flushed: Path, tmp_path: Path) -> None:
    path = copied(flushed, tmp_path)
    store = RocksStore(path, node=NODE)
    store.write([PutReplica(replace(store.replicas()[2], anchor=Anchor(offset=Offset(1))))])
    store.close()
    assert any(f"breaks at entry {TRIMMED_TO}" in error for error in errors(verify(path)))


def test_state_of_a_later_entry_than_the_stored_producers_is_found(flushed: Path, tmp_path: Path) -> None:
    path = copied(flushed, tmp_path)
    write(path, PutState(GENERATION, StateKind.PRODUCER, b"short", b"\xff\xff"))
    assert any("derived state cannot be read" in error for error in errors(verify(path)))


def test_a_damaged_file_does_not_drown_the_rest(flushed: Path, tmp_path: Path) -> None:
    path = copied(flushed, tmp_path)
    tamper(path, lambda _, b: [b.put(Family.LOG, pair_key(GENERATION, n), b"junk") for n in range(1, 41)])
    report = verify(path)
    found = [error for error in errors(report) if error.startswith(f"group {GROUP}")]
    assert len(found) == 21
    assert found[-1].startswith(f"group {GROUP}: and ")
    assert not any(one.problems for one in report.replicas if one.group != GROUP)
