"""Numbers that an experiment and a node both map: what is to happen in the first half, what has happened in the second.

They lie in a file, so that what was counted outlives the process that counted it.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

BYTES = 4096
_CELL = struct.Struct("=q")


class Cells:
    """The cells of one file. Writing one is seen at once by whoever has mapped the same file."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        if create:
            path.write_bytes(bytes(BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), BYTES)

    def __getitem__(self, cell: int) -> int:
        return int(_CELL.unpack_from(self._map, cell * _CELL.size)[0])

    def __setitem__(self, cell: int, value: int) -> None:
        _CELL.pack_into(self._map, cell * _CELL.size, value)

    def close(self) -> None:
        self._map.close()
