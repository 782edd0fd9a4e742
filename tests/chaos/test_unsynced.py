"""What a process had not synced is taken back, and nothing else."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from raftmq.chaos import shim
from raftmq.chaos.shim import Shim
from raftmq.chaos.shim.unsynced import Synced
from raftmq.storage.marker import read_marker
from tests.chaos.test_shim import library, process, run_with

__all__ = ["library"]
RDWR = "os.O_RDWR | os.O_CREAT"


@pytest.fixture
def cells(library: Path, tmp_path: Path) -> Shim:
    return Shim(library, tmp_path / "1.cells", keeps_synced=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data/db").mkdir(parents=True)
    return tmp_path / "data"


@pytest.fixture
def table(cells: Shim) -> Synced:
    assert cells.synced is not None
    return cells.synced


def opened(path: Path, flags: str = RDWR) -> str:
    return f"import os\nf = os.open('{path}', {flags})\n"


def test_what_is_appended_behind_the_last_sync_is_taken_back(cells: Shim, table: Synced, data: Path) -> None:
    log = data / "db/000004.log"
    run_with(cells, opened(log) + "os.write(f, b'kept'); os.fdatasync(f); os.write(f, b'lost'); os.write(f, b'too')")
    assert log.read_text() == "keptlosttoo"
    assert table.unsynced(data) == {log: 7}
    assert table.take_back(data) == {log: 7}
    assert log.read_text() == "kept"
    assert table.take_back(data) == {}


@pytest.mark.parametrize("sync", ["fsync", "fdatasync"])
def test_what_is_synced_stays(cells: Shim, table: Synced, data: Path, sync: str) -> None:
    run_with(cells, opened(data / "db/1.sst") + f"os.write(f, b'all of it'); os.{sync}(f)")
    assert table.take_back(data) == {}
    assert (data / "db/1.sst").read_text() == "all of it"


def test_a_sync_that_failed_or_was_not_reached_keeps_nothing(cells: Shim, table: Synced, data: Path) -> None:
    cells[shim.FAIL_SYNCS] = 1
    cells[shim.DIE_BEFORE_SYNC] = 1
    code = "os.write(f, b'lost')\ntry: os.fsync(f)\nexcept OSError: os.write(f, b'!'); os.fsync(f)"
    assert process(cells, opened(data / "db/1.log") + code).returncode == -signal.SIGKILL
    assert table.take_back(data) == {data / "db/1.log": 5}


def test_bytes_that_were_written_over_come_back(cells: Shim, table: Synced, data: Path) -> None:
    code = (
        "os.pwrite(f, b'abcdefgh', 0); os.fsync(f); os.pwrite(f, b'XY', 2); os.pwrite(f, b'ZZ', 3); os.lseek(f, 6, 0); "
        "os.write(f, b'GHIJ')"
    )
    run_with(cells, opened(data / "marker") + code)
    assert (data / "marker").read_text() == "abXZZfGHIJ"
    assert table.take_back(data) == {data / "marker": 2 + 2 + 2 + 2}
    assert (data / "marker").read_text() == "abcdefgh"
    assert cells[shim.NOT_KEPT] == 0


def test_bytes_that_were_written_over_and_synced_stay(cells: Shim, table: Synced, data: Path) -> None:
    run_with(
        cells, opened(data / "marker") + "os.pwrite(f, b'abcd', 0); os.fsync(f); os.pwrite(f, b'XY', 0); os.fsync(f)"
    )
    assert table.take_back(data) == {}
    assert (data / "marker").read_text() == "XYcd"


def test_a_write_whose_old_bytes_cannot_be_kept_is_counted(cells: Shim, data: Path) -> None:
    run_with(
        cells,
        opened(data / "a", "os.O_WRONLY | os.O_CREAT") + "os.pwrite(f, b'abcd', 0); os.fsync(f); os.pwrite(f, b'X', 0)",
    )
    assert cells[shim.NOT_KEPT] == 1


def test_a_file_keeps_its_state_under_another_name_and_in_the_next_process(
    cells: Shim, table: Synced, data: Path
) -> None:
    run_with(cells, opened(data / "new") + f"os.write(f, b'kept'); os.fsync(f); os.rename('{data}/new', '{data}/now')")
    run_with(cells, opened(data / "now", "os.O_RDWR | os.O_APPEND") + "os.writev(f, [b'lo', b'st'])")
    assert table.take_back(data) == {data / "now": 4}
    assert (data / "now").read_text() == "kept"


def test_a_new_file_with_the_inode_of_an_old_one_is_a_new_file(cells: Shim, table: Synced, data: Path) -> None:
    code = (
        "os.write(f, b'synced and long'); os.fsync(f); os.pwrite(f, b'S', 0); os.ftruncate(f, 0); "
        "os.lseek(f, 0, 0); os.write(f, b'new')"
    )
    run_with(cells, opened(data / "db/1.log") + code)
    assert table.take_back(data) == {data / "db/1.log": 3}
    assert (data / "db/1.log").read_text() == ""


def test_a_file_that_was_there_before_is_synced(cells: Shim, table: Synced, data: Path) -> None:
    (data / "old").write_text("old")
    run_with(cells, opened(data / "old", "os.O_WRONLY | os.O_APPEND") + "os.write(f, b'lost')")
    table.take_back(data)
    assert (data / "old").read_text() == "old"


def test_two_threads_write_two_files(cells: Shim, table: Synced, data: Path) -> None:
    code = f"""
import os, threading
def work(name):
    f = os.open('{data}/' + name, {RDWR})
    for i in range(300):
        os.write(f, b'x')
        if i % 3 == 1: os.fsync(f)
threads = [threading.Thread(target=work, args=(name,)) for name in 'abcd']
[one.start() for one in threads]
[one.join() for one in threads]
"""
    run_with(cells, code)
    assert table.take_back(data) == {data / name: 1 for name in "abcd"}


def test_a_note_of_the_marker_that_was_not_settled_is_gone(cells: Shim, table: Synced, data: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, '{Path(__file__).parents[2]}')\n"
        "from pathlib import Path\nfrom raftmq.storage.marker import Mark, Marker\n"
        f"m = Marker(Path('{data}/marker'), 7, Mark(1, 0, 0, 0))\n"
        "m.note(Mark(1, 5, 2, 1)); m.settle(); m.note(Mark(1, 9, 2, 1))"
    )
    run_with(cells, code)
    assert read_marker(data / "marker")[1].sequence == 9
    assert sum(table.take_back(data).values()) > 0
    assert read_marker(data / "marker")[1].sequence == 5
