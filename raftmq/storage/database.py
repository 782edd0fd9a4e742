"""RocksDB with its sharp edges filed off: everything that touches the binding is here and in options.py.

What the binding does that this module keeps from its callers:

- A bound given to ``ReadOptions`` is not copied: options and bytes must live as long as the iterator. Its "lower
  bound" sets the upper one. So: ``Cursor`` keeps both, knows only upper bounds, and checks every key.
- A scan that meets a corrupt block just ends; only ``status()`` tells. ``Cursor`` asks at every end.
- An inverted ``delete_range`` poisons the database for good. ``Batch`` asserts the order.
- ``write`` waits in a write stall with the GIL held. It is told not to; "Write stall" then means that nothing
  was applied, and becomes StorageStalled.
- After any other failed write or sync nothing is known any more (a page whose fsync failed is marked clean). The
  failure latches: every later call raises StorageError.
- ``close`` flushes one family and leaves the database locked while any handle lives. ``Database`` owns them all.

Snapshots are not used: an iterator of a snapshot ignores it. An open iterator *is* a snapshot.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

from rocksdict import AccessType, ColumnFamily, Rdict, RdictIter, ReadOptions, WriteBatch

from raftmq.ports import StorageError, StorageStalled
from raftmq.storage.keys import Family
from raftmq.storage.options import Tuning, database_options, family_options, forced, write_options

Row = tuple[bytes, bytes]
Range = tuple[Family, bytes, bytes]
"""A family and bounds [begin, end) of keys."""

_AGE_CUTOFF = "blob_garbage_collection_age_cutoff"
_GARBAGE_SHARE_MIN = 10
"""Less than a tenth of garbage is not worth copying the rest."""


class Batch:
    """Changes that are applied in order, all or nothing, once."""

    def __init__(self, handles: dict[Family, ColumnFamily]) -> None:
        self._handles = handles
        self.raw = WriteBatch(raw_mode=True)

    def put(self, family: Family, key: bytes, value: bytes) -> None:
        self.raw.put(key, value, self._handles[family])

    def delete(self, family: Family, key: bytes) -> None:
        self.raw.delete(key, self._handles[family])

    def delete_range(self, family: Family, begin: bytes, end: bytes) -> None:
        """Delete every key in [begin, end), which must not be empty or inverted."""
        assert begin < end, f"inverted range in {family}: {begin.hex()} .. {end.hex()}"
        self.raw.delete_range(begin, end, self._handles[family])


class Cursor:
    """Rows of one range, in key order (or backwards), as they were when it was made."""

    def __init__(
        self, gate: threading.Lock, table: Rdict, begin: bytes, end: bytes, *, backwards: bool = False
    ) -> None:
        assert begin <= end, f"inverted range: {begin.hex()} .. {end.hex()}"
        self._gate = gate
        self._begin = begin
        self._end = end
        self._backwards = backwards
        self._options = ReadOptions()
        self._options.set_iterate_upper_bound(end)
        self._iterator: RdictIter | None = table.iter(self._options)
        self._target: bytes | None = begin
        """Where the next step starts; None: one row further. Moved to late, because moving reads the value."""

    def next(self) -> Row | None:
        """The next row; None at the end. Raises StorageError."""
        with self._gate:
            if self._iterator is None:
                raise StorageError("the store was closed under a scan")
            try:
                return self._step(self._iterator)
            except StorageError:
                raise
            except Exception as error:
                raise StorageError(f"a scan failed: {error}") from error

    def seek(self, key: bytes) -> None:
        """Go on with the first row at or after `key`."""
        assert self._begin <= key
        assert not self._backwards
        self._target = key

    def __iter__(self) -> Iterator[Row]:
        while (row := self.next()) is not None:
            yield row

    def drop(self) -> None:
        """Let go of the database; the gate must be held."""
        self._iterator = None

    def _step(self, iterator: RdictIter) -> Row | None:
        if self._target is not None:
            if self._backwards:
                iterator.seek_to_last()
            else:
                iterator.seek(self._target)
            self._target = None
        elif not iterator.valid():
            return None
        elif self._backwards:
            iterator.prev()
        else:
            iterator.next()
        if not iterator.valid():
            iterator.status()
            return None
        key: bytes = iterator.key()
        if self._backwards and key < self._begin:
            return None
        if not self._begin <= key < self._end:
            raise StorageError(f"a scan of {self._begin.hex()} .. {self._end.hex()} came upon {key.hex()}")
        return key, iterator.value()


class Database:
    """One open RocksDB. Writes, syncs and close come from one thread at a time, reads from any."""

    def __init__(
        self, path: Path, tuning: Tuning, *, create: bool, read_only: bool = False, whole: bool = False
    ) -> None:
        """`whole`: refuse a write-ahead log that does not end with a whole record, as one does after a crash. Raises
        StorageError where RocksDB refuses."""
        try:
            access = AccessType.read_only(False) if read_only else AccessType.read_write()
            options = database_options(tuning, create=create, whole=whole)
            self._rocks = Rdict(str(path), options, family_options(tuning), access)
            self._tables = {family: self._rocks.get_column_family(family.value) for family in Family}
            self._handles = {family: self._rocks.get_column_family_handle(family.value) for family in Family}
        except Exception as error:
            raise StorageError(f"RocksDB does not open {path}: {error}") from error
        self._write_options = write_options()
        self._age_cutoff = tuning.blob_age_cutoff
        self._gate = threading.Lock()
        # Weak: a scan that was asked for and never begun pins nothing once it is forgotten.
        self._cursors: WeakSet[Cursor] = WeakSet()
        self._failure: str | None = None
        self._closed = False

    # -- state -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise StorageError after a failure and after close."""
        if self._failure is not None:
            raise StorageError(f"the store has failed before: {self._failure}")
        if self._closed:
            raise StorageError("the store is closed")

    @property
    def usable(self) -> bool:
        """Neither failed nor closed."""
        return self._failure is None and not self._closed

    def fail(self, what: str, error: Exception) -> StorageError:
        """Latch a failure; what is returned is to be raised."""
        self._failure = f"{what}: {error}"
        return StorageError(self._failure)

    @property
    def sequence(self) -> int:
        """Number of the newest write, synced or not. Never falls, unless writes are lost."""
        self.check()
        return self._rocks.latest_sequence_number()

    # -- writing -----------------------------------------------------------------------------------------------

    def batch(self) -> Batch:
        return Batch(self._handles)

    def write(self, batch: Batch, *, wait: bool = False) -> None:
        """Apply, not durable. The batch is used up, whatever happens. Raises StorageStalled or StorageError.

        `wait`: rather stand in a write stall, with the GIL held; for the time before anything else runs.
        """
        self.check()
        try:
            self._rocks.write(batch.raw, None if wait else self._write_options)
        except Exception as error:
            if "Write stall" in str(error):
                raise StorageStalled(str(error)) from error
            raise self.fail("a write failed", error) from error

    def sync(self) -> None:
        """Make every write durable; other threads run meanwhile. Raises StorageError."""
        self.check()
        try:
            self._rocks.flush_wal(True)
        except Exception as error:
            raise self.fail("a sync failed", error) from error

    def flush(self, family: Family) -> None:
        """Move a family's rows from the write-ahead log to table files, durably. Raises StorageError."""
        self.check()
        try:
            self._tables[family].flush()
        except Exception as error:
            raise self.fail(f"a flush of {family} failed", error) from error

    def compact(self, family: Family, spare: int) -> None:
        """Rewrite a family's files without what was deleted; other threads run meanwhile. Raises StorageError.

        A blob file goes only when no value in it is alive. `spare`: so many bytes of live values may be copied out of
        the oldest blob files to that end, before any of them goes.
        """
        self.check()
        table = self._tables[family]
        try:
            table.compact_range(None, None)
            stored = table.property_int_value("rocksdb.live-blob-file-size") or 0
            garbage = table.property_int_value("rocksdb.live-blob-file-garbage-size") or 0
            if garbage * _GARBAGE_SHARE_MIN > stored:
                table.set_options({_AGE_CUTOFF: str(min(1.0, spare / stored))})
                table.compact_range(None, None, forced())
                table.set_options({_AGE_CUTOFF: str(self._age_cutoff)})
        except Exception as error:
            raise self.fail(f"a compaction of {family} failed", error) from error

    # -- reading -----------------------------------------------------------------------------------------------

    def get(self, family: Family, key: bytes) -> bytes | None:
        """Raises StorageError."""
        with self._gate:
            self.check()
            try:
                value: bytes | None = self._tables[family].get(key)
            except Exception as error:
                raise StorageError(f"a read of {family} failed: {error}") from error
            return value

    def cursor(self, family: Family, begin: bytes, end: bytes) -> Cursor:
        """Rows of one range as they are now, for as long as needed: to be handed back to ``release``."""
        with self._gate:
            return self._cursor(family, begin, end)

    @contextmanager
    def scan(self, family: Family, begin: bytes, end: bytes, *, backwards: bool = False) -> Iterator[Cursor]:
        """Rows of one range as they are now, for the time of a block."""
        with self._gate:
            cursor = self._cursor(family, begin, end, backwards=backwards)
        try:
            yield cursor
        finally:
            self.release(cursor)

    @contextmanager
    def scans(self, ranges: Sequence[Range]) -> Iterator[list[Cursor]]:
        """Rows of several ranges, all as of one instant, for the time of a block.

        Each cursor is a snapshot of its own family only, so they are made again until no write came between.
        """
        with self._gate:
            cursors = self._made_at_once(ranges)
        try:
            yield cursors
        finally:
            for cursor in cursors:
                self.release(cursor)

    def release(self, cursor: Cursor) -> None:
        """Let go of what a cursor pins. Idempotent."""
        with self._gate:
            cursor.drop()
            self._cursors.discard(cursor)

    def _made_at_once(self, ranges: Sequence[Range]) -> list[Cursor]:
        while True:
            before = self.sequence
            cursors = [self._cursor(*limits) for limits in ranges]
            if self.sequence == before:
                return cursors
            for cursor in cursors:
                cursor.drop()
                self._cursors.discard(cursor)

    def _cursor(self, family: Family, begin: bytes, end: bytes, *, backwards: bool = False) -> Cursor:
        self.check()
        cursor = Cursor(self._gate, self._tables[family], begin, end, backwards=backwards)
        self._cursors.add(cursor)
        return cursor

    # -- the end -----------------------------------------------------------------------------------------------

    def close(self, *, flush: bool = True) -> None:
        """Flush every family, let go of every handle, close. Idempotent. After a failure: only let go.

        Raises StorageError where a flush fails; the database is closed all the same.
        """
        if self._closed:
            return
        try:
            if flush and self.usable:
                for family in Family:
                    self.flush(family)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """The families' tables are dropped, not closed: to close one flushes it."""
        with self._gate:
            self._closed = True
            for cursor in self._cursors:
                cursor.drop()
            self._cursors.clear()
            self._handles.clear()
            self._tables.clear()
            rocks = self._rocks
            del self._rocks
            try:
                rocks.close()
            except Exception as error:
                # After a failed write close complains about it once more: that is known.
                if self._failure is None:
                    raise self.fail("close failed", error) from error
