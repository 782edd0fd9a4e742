"""The library that is preloaded into nodes: built by `cc` into the run's folder, and spoken to through a mapped file.

See ``shim.c`` for what it does and for the meaning of the cells.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from importlib import resources
from pathlib import Path

FAIL_SYNCS, SLOW_SYNC_US, CLOCK_NS = 0, 1, 2
FAILED, SLOWED, CHANGED = 16, 17, 18

_CELL = struct.Struct("=q")
_BYTES = 4096


def why_missing() -> str | None:
    """What keeps this machine from it, or None."""
    return None if shutil.which("cc") else "no C compiler: 'cc' is not on PATH"


def build(directory: Path) -> Path:
    """Compile the library. Raises RuntimeError with the compiler's words."""
    source, library = directory / "shim.c", directory / "shim.so"
    source.write_text(resources.files(__name__).joinpath("shim.c").read_text(encoding="utf-8"))
    command = ["cc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"the shim cannot be built: {done.stderr.strip()}")
    return library


class Shim:
    """The cells of one node. They outlive its process."""

    def __init__(self, library: Path, path: Path) -> None:
        self._library = library
        self._path = path
        path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES)

    @property
    def environment(self) -> tuple[str, ...]:
        """Shell lines that preload it."""
        return (f'export LD_PRELOAD="{self._library}"', f'export RAFTMQ_CHAOS_SHIM="{self._path}"')

    def __getitem__(self, cell: int) -> int:
        return int(_CELL.unpack_from(self._map, cell * _CELL.size)[0])

    def __setitem__(self, cell: int, value: int) -> None:
        _CELL.pack_into(self._map, cell * _CELL.size, value)

    def close(self) -> None:
        self._map.close()
