"""Which directories are opened, and what the refusal says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raftmq.ids import NodeId
from raftmq.ports import PutReplica, StorageRefused
from raftmq.storage import opening
from raftmq.storage.database import Database
from raftmq.storage.keys import IDENTITY_KEY, Family, group_key
from raftmq.storage.marker import read_marker
from raftmq.storage.options import Tuning
from raftmq.storage.rocks import RocksStore
from tests.storage.build import NODE, row
from tests.storage.test_rocks_store import abandon

OPEN = "import sys; from raftmq.storage.rocks import RocksStore; RocksStore(sys.argv[1], node=1).close()"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "data"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_the_directory_is_private_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        RocksStore(path, node=NODE).close()
    finally:
        os.umask(before)
    assert mode(path) == 0o700
    assert mode(path / "marker") & 0o077 == 0


def test_an_empty_directory_is_taken_and_made_private(path: Path) -> None:
    path.mkdir(parents=True)
    path.chmod(0o755)
    (path / "lost+found").mkdir()
    RocksStore(path, node=NODE).close()
    assert mode(path) == 0o700


def test_a_directory_that_others_can_read_is_refused(path: Path) -> None:
    RocksStore(path, node=NODE).close()
    path.chmod(0o750)
    with pytest.raises(StorageRefused, match="chmod 700"):
        RocksStore(path, node=NODE)
    path.chmod(0o700)
    RocksStore(path, node=NODE).close()


def test_a_directory_with_something_else_in_it_is_refused_and_left_alone(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "thesis.tex").write_text("do not touch")
    with pytest.raises(StorageRefused, match=r"thesis\.tex"):
        RocksStore(path, node=NODE)
    assert [child.name for child in path.iterdir()] == ["thesis.tex"]


def test_links_are_refused(path: Path, tmp_path: Path) -> None:
    RocksStore(path, node=NODE).close()
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(StorageRefused, match="real directory"):
        RocksStore(link, node=NODE)
    (path / "db").rename(tmp_path / "elsewhere")
    (path / "db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageRefused, match="symbolic link"):
        RocksStore(path, node=NODE)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageRefused, match="data directory"):
        RocksStore(tmp_path / "file", node=NODE)


def test_the_directory_of_another_node_is_refused(path: Path) -> None:
    store = RocksStore(path, node=NODE)
    store.close()
    with pytest.raises(StorageRefused, match="data directory of node 1, not of node 2"):
        RocksStore(path, node=NodeId(2))
    again = RocksStore(path, node=NODE)
    assert again.identity.boot_count == store.identity.boot_count + 1
    again.close()


def test_a_directory_in_use_is_refused(path: Path) -> None:
    store = RocksStore(path, node=NODE)
    with pytest.raises(StorageRefused, match="in use by a running process"):
        RocksStore(path, node=NODE)
    child = subprocess.run([sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=False)
    assert child.returncode != 0
    assert "in use by a running process" in child.stderr
    store.close()
    subprocess.run([sys.executable, "-c", OPEN, str(path)], check=True)


def edit_identity(path: Path, value: bytes | None) -> None:
    database = Database(path / "db", Tuning(), create=False)
    batch = database.batch()
    if value is None:
        batch.delete(Family.NODE, IDENTITY_KEY)
    else:
        batch.put(Family.NODE, IDENTITY_KEY, value)
    database.write(batch)
    database.close()


def test_another_format_is_refused(path: Path) -> None:
    RocksStore(path, node=NODE).close()
    edit_identity(path, b"\0\2 something newer")
    with pytest.raises(StorageRefused, match="has format 2, this version reads 1"):
        RocksStore(path, node=NODE)


def test_a_replica_whose_promises_cannot_be_read_keeps_the_node_from_starting(path: Path) -> None:
    """It names the group and says what to do; nothing is changed, so that whoever can mend the row may try."""
    store = RocksStore(path, node=NODE)
    store.write([PutReplica(row())])
    store.sync()
    store.close()
    database = Database(path / "db", Tuning(), create=False)
    batch = database.batch()
    batch.put(Family.RAFT, group_key(row().group), b"\xff nothing of ours")
    database.write(batch)
    database.close()
    for _ in range(2):
        with pytest.raises(StorageRefused, match=f"group {row().group}.*empty disk.*repair-node {NODE}"):
            RocksStore(path, node=NODE)


def test_a_database_that_forgot_its_name_is_refused(path: Path) -> None:
    RocksStore(path, node=NODE).close()
    edit_identity(path, None)
    with pytest.raises(StorageRefused, match="does not know whose it is"):
        RocksStore(path, node=NODE)


def test_a_marker_without_a_database_is_refused(path: Path, tmp_path: Path) -> None:
    RocksStore(path, node=NODE).close()
    (path / "db").rename(tmp_path / "gone")
    with pytest.raises(StorageRefused, match="no database"):
        RocksStore(path, node=NODE)
    assert not (path / "db").exists()


def test_a_database_without_its_current_file_is_refused_and_not_made_anew(path: Path) -> None:
    RocksStore(path, node=NODE).close()
    (path / "db" / "CURRENT").unlink()
    with pytest.raises(StorageRefused, match="cannot be opened"):
        RocksStore(path, node=NODE)
    assert not (path / "db" / "CURRENT").exists()


class Crash(BaseException):
    """The process ends here."""


def crash(*_: object, **__: object) -> None:
    raise Crash


@pytest.mark.parametrize("step", ["Database", "read_replicas", "first_mark"])
def test_a_first_open_that_was_cut_short_goes_on(path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(opening, step, crash)
        with pytest.raises(Crash):
            RocksStore(path, node=NODE)
    promised, _ = read_marker(path / "marker")
    store = RocksStore(path, node=NODE)
    assert store.identity.store_id == promised
    assert not store.identity.suspect
    assert store.identity.boot_count in (1, 2)
    store.close()


def test_a_refused_open_leaves_the_directory_unlocked(path: Path) -> None:
    RocksStore(path, node=NODE).close()
    for _ in range(3):
        with pytest.raises(StorageRefused):
            RocksStore(path, node=NodeId(2))
    RocksStore(path, node=NODE).close()


def test_the_identity_survives_the_loss_of_the_write_ahead_log(path: Path) -> None:
    store = RocksStore(path, node=NODE)
    identity = store.identity
    abandon(store)
    for file in (path / "db").glob("*.log"):
        file.unlink()
    again = RocksStore(path, node=NODE)
    assert again.identity.store_id == identity.store_id
    assert again.identity.boot_count == 2
    again.close()


def test_a_marker_being_made_is_no_stranger(path: Path) -> None:
    RocksStore(path, node=NODE).close()
    (path / "marker.new").write_bytes(b"half")
    RocksStore(path, node=NODE).close()
    assert not (path / "marker.new").exists()
