"""The preloaded library, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raftmq.chaos import shim
from raftmq.chaos.shim import Shim


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := shim.why_missing():
        pytest.skip(reason)
    return shim.build(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def cells(library: Path, tmp_path: Path) -> Shim:
    return Shim(library, tmp_path / "cells")


def process(cells: Shim, code: str) -> subprocess.CompletedProcess[str]:
    script = "\n".join([*cells.environment, f"exec '{sys.executable}' -c \"{code}\""])
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)


def run_with(cells: Shim, code: str) -> str:
    done = process(cells, code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_shim_does_nothing_unless_told(cells: Shim) -> None:
    told = run_with(cells, "import os, time; os.fsync(os.open('.', os.O_RDONLY)); print(time.time())")
    clock = subprocess.run(["date", "+%s"], capture_output=True, text=True, check=True).stdout
    assert abs(float(told) - float(clock)) < 600
    assert [cells[i] for i in (shim.FAILED, shim.SLOWED, shim.CHANGED)] == [0, 0, 0]


def test_the_shim_fails_as_many_syncs_as_told(cells: Shim) -> None:
    cells[shim.FAIL_SYNCS] = 2
    told = run_with(
        cells,
        "import os\nf = os.open('.', os.O_RDONLY)\nfor sync in (os.fsync, os.fdatasync, os.fsync):\n"
        " try:\n  sync(f)\n  print('ok')\n except OSError as e:\n  print(e.errno)",
    )
    assert told.split() == ["5", "5", "ok"]
    assert cells[shim.FAILED] == 2


def test_the_shim_slows_syncs(cells: Shim) -> None:
    cells[shim.SLOW_SYNC_US] = 1000
    run_with(cells, "import os; f = os.open('.', os.O_RDONLY); os.fsync(f); os.fdatasync(f)")
    assert cells[shim.SLOWED] == 2


def test_the_shim_moves_the_wall_clock_and_no_other(cells: Shim) -> None:
    code = "import time; print(time.time() > 4e9, time.monotonic() > 4e9 - 1e9)"
    cells[shim.CLOCK_NS] = 4_000_000_000 * 1_000_000_000
    assert run_with(cells, code) == "True False"
    assert cells[shim.CHANGED] > 0


def test_reads_of_data_fail_and_no_others(cells: Shim, tmp_path: Path) -> None:
    (tmp_path / "1.sst").write_text("data")
    (tmp_path / "CURRENT").write_text("other")
    cells[shim.FAIL_READS] = 2
    code = (
        f"import os\nd = '{tmp_path}'\nprint(open(d + '/CURRENT').read())\nf = os.open(d + '/1.sst', os.O_RDONLY)\n"
        "for read in (lambda: os.read(f, 9), lambda: os.pread(f, 9, 0), lambda: os.pread(f, 9, 0)):\n"
        " try:\n  print(read().decode())\n except OSError as e:\n  print(e.errno)"
    )
    assert run_with(cells, code).split() == ["other", "5", "5", "data"]
    assert cells[shim.READS_FAILED] == 2


def test_reads_of_data_are_slow(cells: Shim, tmp_path: Path) -> None:
    (tmp_path / "1.blob").write_text("data")
    cells[shim.SLOW_READ_US] = 1000
    assert run_with(cells, f"import os; print(os.pread(os.open('{tmp_path}/1.blob', 0), 9, 0).decode())") == "data"
    assert cells[shim.READS_SLOWED] == 1


def test_there_is_no_room_for_data(cells: Shim, tmp_path: Path) -> None:
    cells[shim.NO_SPACE] = 1
    code = (
        f"import os\nfor name in ('1.log', 'LOG'):\n f = os.open('{tmp_path}/' + name, os.O_WRONLY | os.O_CREAT)\n"
        " try:\n  print(os.write(f, b'x'))\n except OSError as e:\n  print(e.errno)"
    )
    assert run_with(cells, code).split() == ["28", "1"]
    assert cells[shim.REFUSED] == 1


@pytest.mark.parametrize(
    ("cell", "written"), [(shim.DIE_BEFORE_SYNC, "abcd"), (shim.DIE_AFTER_SYNC, "abcd"), (shim.DIE_IN_WRITE, "ab")]
)
def test_a_process_dies_at_the_point_that_was_named(cells: Shim, tmp_path: Path, cell: int, written: str) -> None:
    cells[cell] = 1
    code = (
        f"import os; f = os.open('{tmp_path}/1.log', os.O_WRONLY | os.O_CREAT); os.write(f, b'abcd'); os.fdatasync(f); "
        "print('alive')"
    )
    done = process(cells, code)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
    assert (tmp_path / "1.log").read_text() == written
    assert cells[shim.DIED] == 1


def test_deaths_count_down(cells: Shim, tmp_path: Path) -> None:
    cells[shim.DIE_BEFORE_SYNC] = 3
    code = f"import os; f = os.open('{tmp_path}', 0); os.fsync(f); os.fsync(f); print('alive', flush=True); os.fsync(f)"
    assert process(cells, code).stdout.strip() == "alive"
    assert cells[shim.DIE_BEFORE_SYNC] == 0


@pytest.mark.parametrize(("rate_ppm", "rate"), [(4_000_000, 5.0), (-800_000, 0.2)])
def test_clocks_run_at_another_rate(cells: Shim, rate_ppm: int, rate: float) -> None:
    """Beside a clock that the library leaves alone, read before and after each reading: no pause can hide between."""
    cells[shim.CLOCK_RATE_PPM] = rate_ppm
    code = (
        "import time\nraw = lambda: time.clock_gettime(time.CLOCK_MONOTONIC_RAW)\ntime.monotonic()\n"
        "r1 = raw(); a = time.monotonic(); r2 = raw()\nwhile raw() < r2 + 0.05: pass\n"
        "r3 = raw(); b = time.monotonic(); r4 = raw()\nprint(b - a, r3 - r2, r4 - r1)"
    )
    told, least, most = map(float, run_with(cells, code).split())
    assert 0.98 * rate * least <= told <= 1.02 * rate * most
    assert cells[shim.RATED] > 0
