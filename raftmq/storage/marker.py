"""The tail marker: a small file beside the database that says how much of it was synced.

RocksDB cannot tell a log that ends from a log that was cut: a write-ahead log with a flipped bit in its middle, or
cut at a record's border, or gone, opens without an error, and synced writes are missing. A voter that lost such
writes may vote committed entries away. So the number of the last synced write is kept in a second place and
compared at open.

The file has two slots of 4 KiB, used in turn, so that a torn write leaves the other. A slot, big-endian::

    magic "RMQM", format u16, store u64, boot count u64, sequence u64, term u64, groups u64, CRC-32C u32

*Sequence* is a floor: every write up to it was durable before it was noted, so a database below it has lost
something, whatever instant the crash chose. *Term* and *groups* are ceilings: they are made durable before the
writes that need them, so that what is known of lost votes covers the lost votes too.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from raftmq.ids import BootCount, GroupId, StoreId, Term
from raftmq.records.entry import crc32c

SLOT_BYTES = 4096
_SLOT = struct.Struct(">4sHQQQQQ")
_CRC = struct.Struct(">I")
_MAGIC = b"RMQM"
_FORMAT = 1


class MarkerLost(Exception):
    """There is no marker that can be read. The text says why."""


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """What a slot says. Marks of one disk are ordered: a later one is greater.

    ``groups`` is one more than the highest group that ever had a replica here (0: none had).
    """

    boot_count: BootCount
    sequence: int
    term: Term
    groups: int

    def covers(self, term: Term, groups: int) -> bool:
        """True where the ceilings need not be raised."""
        return term <= self.term and groups <= self.groups

    @property
    def last_group(self) -> GroupId | None:
        return GroupId(self.groups - 1) if self.groups else None


def encode_mark(store: StoreId, mark: Mark) -> bytes:
    body = _SLOT.pack(_MAGIC, _FORMAT, store, mark.boot_count, mark.sequence, mark.term, mark.groups)
    return body + _CRC.pack(crc32c(body))


def decode_mark(slot: bytes) -> tuple[StoreId, Mark]:
    """Raises MarkerLost where `slot` does not start with a whole mark."""
    if len(slot) < _SLOT.size + _CRC.size:
        raise MarkerLost(f"a slot of {len(slot)} bytes is too short")
    body = slot[: _SLOT.size]
    if _CRC.unpack_from(slot, _SLOT.size)[0] != crc32c(body):
        raise MarkerLost("slot checksum mismatch")
    magic, fmt, store, boot, sequence, term, groups = _SLOT.unpack(body)
    if magic != _MAGIC or fmt != _FORMAT:
        raise MarkerLost(f"slot format {magic!r} {fmt} is not known here")
    return StoreId(store), Mark(BootCount(boot), sequence, Term(term), groups)


def read_marker(path: Path) -> tuple[StoreId, Mark]:
    """The newest mark in the file. Raises MarkerLost where there is none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MarkerLost(f"the tail marker cannot be read: {error.strerror}") from error
    found: list[tuple[Mark, StoreId]] = []
    problems: list[str] = []
    for at in (0, SLOT_BYTES):
        try:
            store, mark = decode_mark(content[at : at + SLOT_BYTES])
        except MarkerLost as problem:
            problems.append(str(problem))
        else:
            found.append((mark, store))
    if not found:
        raise MarkerLost(f"the tail marker is damaged: {problems[0]}")
    mark, store = max(found)
    return store, mark


class Marker:
    """The open file. ``note`` writes without sync, ``settle`` makes the note durable.

    Invariant: at most one slot is not durable, and ``note`` only ever writes to that one; the other holds the
    newest durable mark.
    """

    def __init__(self, path: Path, store: StoreId, mark: Mark) -> None:
        """Write a new file that holds `mark`, durably, in place of whatever was there. Raises OSError."""
        self._store = store
        self._slot = 1
        self._pending = False
        self.mark = mark
        temporary = path.with_name(path.name + ".new")
        self._descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            slot = encode_mark(store, mark).ljust(SLOT_BYTES, b"\0")
            os.pwrite(self._descriptor, slot + slot, 0)
            os.fsync(self._descriptor)
            temporary.replace(path)
            sync_directory(path.parent)
        except OSError:
            os.close(self._descriptor)
            raise

    def note(self, mark: Mark) -> None:
        """Write `mark`, which must be later than the one before. Raises OSError."""
        assert mark >= self.mark, f"{mark} is older than {self.mark}"
        os.pwrite(self._descriptor, encode_mark(self._store, mark), self._slot * SLOT_BYTES)
        self.mark = mark
        self._pending = True

    def settle(self) -> None:
        """Make what was noted durable; nothing to do where it is. Raises OSError."""
        if not self._pending:
            return
        os.fdatasync(self._descriptor)
        self._pending = False
        self._slot = 1 - self._slot

    def close(self) -> None:
        os.close(self._descriptor)


def sync_directory(path: Path) -> None:
    """Make names in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
