"""What a process had written and not synced, and how it is taken back: a power cut for those who may not mount a disk.

The preloaded library notes of every file that the process writes up to what length it was synced, before the process
itself is told, and keeps synced bytes that are written over (see ``shim.c``). When the process is dead, files are cut
to that length, and the bytes put back: what is left is what fsync and fdatasync had promised, and nothing else.

Stricter than most disks: everything that was not synced is lost, and sync_file_range, which promises nothing, counts
for nothing. Milder in one thing: names stay. What was created, renamed or deleted is so whether or not the directory
was synced; a file that never was is empty afterwards, where a file system may not have it at all.
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FILES = 8192
_ROW = struct.Struct("=qqqq")
_NOT_THE_NODES = ("LOG", "LOCK")
"""RocksDB's diary, which is written past the library; and a file without content."""


class _Row(NamedTuple):
    length: int
    syncs: int


class _Kept(NamedTuple):
    syncs: int
    at: int
    bytes: bytes


class Synced:
    """The table of one node. It outlives its process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._undo = path.with_name(path.name + ".undo")
        with path.open("wb") as file:
            file.truncate(FILES * _ROW.size)

    def unsynced(self, directory: Path) -> dict[Path, int]:
        """Bytes of each file in `directory` that lie behind its last sync now. Those written over are not counted."""
        return {path: size - row.length for path, size, row in self._files(directory) if size > row.length}

    def take_back(self, directory: Path) -> dict[Path, int]:
        """Undo all that was not synced of the files in `directory`. Returns how many bytes of each; those of which
        nothing is lost are left out. The process must be dead.
        """
        lost: dict[Path, int] = {}
        kept = self._kept()
        for path, size, row in list(self._files(directory)):
            bytes_lost = max(0, size - row.length)
            if bytes_lost:
                os.truncate(path, row.length)
            for inode_kept in reversed(kept[path.stat().st_ino]):
                if inode_kept.syncs == row.syncs:
                    with path.open("r+b") as file:
                        file.seek(inode_kept.at)
                        file.write(inode_kept.bytes)
                    bytes_lost += len(inode_kept.bytes)
            if bytes_lost:
                lost[path] = bytes_lost
        self._undo.unlink(missing_ok=True)
        return lost

    def _files(self, directory: Path) -> Iterator[tuple[Path, int, _Row]]:
        """Files that were written, their sizes, and what is synced of them. Some may be gone by now."""
        rows = {inode: _Row(length, syncs) for inode, length, syncs, _ in _ROW.iter_unpack(self.path.read_bytes())}
        for path in sorted(directory.rglob("*")):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            row = rows.get(status.st_ino)
            if path.is_file() and row is not None and row.length >= 0 and not path.name.startswith(_NOT_THE_NODES):
                yield path, status.st_size, row

    def _kept(self) -> dict[int, list[_Kept]]:
        """By inode, in the order in which they were kept. A last one that was cut off was followed by no write."""
        found: dict[int, list[_Kept]] = defaultdict(list)
        content = self._undo.read_bytes() if self._undo.exists() else b""
        at = 0
        while at + _ROW.size <= len(content):
            inode, syncs, offset, count = _ROW.unpack_from(content, at)
            at += _ROW.size + count
            if at <= len(content):
                found[inode].append(_Kept(syncs, offset, content[at - count : at]))
        return found
