"""``RocksStore``: a node's disk in one RocksDB, with a tail marker beside it. See the README of this package."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from raftmq.ids import Generation, GroupId, LogIndex, NodeId, Offset
from raftmq.ports import (
    BatchRow,
    ReplicaRow,
    StateKind,
    StorageError,
    StorageRefused,
    StoreIdentity,
    WriteOp,
)
from raftmq.records.entry import LogEntry
from raftmq.storage import reading
from raftmq.storage.changes import BatchBuilder, Tails
from raftmq.storage.directory import DataDirectory
from raftmq.storage.keys import REPLICA_FAMILIES, Family, node_key
from raftmq.storage.opening import Opened, open_disk, read_replicas
from raftmq.storage.options import Tuning

SETTLE_EVERY_S = 0.05
"""How far the marker on disk may lag behind the log while there is work; without work ``settle`` is called for it."""


class RocksStore:
    """``ports.Store`` on a data directory. One process at a time; a failed write or sync is final.

    Reads may come from any thread, at any moment; after ``close`` they raise StorageError, and an iterator that
    was not finished by then does so at its next step.
    """

    def __init__(self, path: str | Path, *, node: NodeId, tuning: Tuning | None = None) -> None:
        """Open the directory, or make it. `node`: who this process is; the directory remembers it.

        Raises StorageRefused, with a text that says what to do.
        """
        self._directory = DataDirectory(Path(path))
        opened = self._open(node, tuning or Tuning())
        self._database = opened.database
        self._marker = opened.marker
        self._settled_at = time.monotonic()
        self._closed = False
        self._tails = Tails(opened.database)
        self._generations: dict[GroupId, Generation] = {
            row.group: row.generation for row in read_replicas(opened.database)
        }
        self._term, self._groups = opened.marker.mark.term, opened.marker.mark.groups
        self.suspect_reason = opened.suspect_reason
        """Why this disk was found suspect at this open, for people; None: it was not."""
        self._identity = StoreIdentity(
            opened.disk.store_id,
            opened.disk.boot_count,
            opened.suspect_reason is not None,
            opened.disk.lost,
        )

    def _open(self, node: NodeId, tuning: Tuning) -> Opened:
        try:
            return open_disk(self._directory, node, tuning)
        except BaseException as error:
            self._directory.release()
            if isinstance(error, StorageError | OSError):
                raise StorageRefused(f"{self._directory.path} cannot be opened: {error}") from error
            raise

    @property
    def identity(self) -> StoreIdentity:
        return self._identity

    # -- reads: from any thread ----------------------------------------------------------------------------------

    def node_value(self, name: str) -> bytes | None:
        """A row of the ``node`` family. Raises StorageError."""
        return self._database.get(Family.NODE, node_key(name))

    def replicas(self) -> list[ReplicaRow]:
        """Every replica on this disk, by group. Raises StorageError."""
        return read_replicas(self._database)

    def scan_headers(self, generation: Generation, first: LogIndex) -> Iterator[LogEntry]:
        """Headers from `first` on as of this call, each checked when it is its turn. Raises StorageError."""
        return reading.scan_headers(self._database, generation, first)

    def read_entries(self, generation: Generation, first: LogIndex, last: LogIndex, max_bytes: int) -> list[LogEntry]:
        """Entries [first, last], whole and checked; fewer when over `max_bytes` (at least one); none when
        first > last. Raises StorageError, also where one of them is missing."""
        return reading.read_entries(self._database, generation, first, last, max_bytes)

    def read_batches(self, generation: Generation, offset: Offset, end: Offset, max_bytes: int) -> list[BatchRow]:
        """Batches from the one that holds `offset` on, none of which reaches past `end`; at least one if there is
        any. Raises StorageError where batches follow but none holds `offset`."""
        return reading.read_batches(self._database, generation, offset, end, max_bytes)

    def offset_at(self, generation: Generation, wall_ms: int) -> Offset | None:
        """First offset appended at `wall_ms` or later; None where there is none. Raises StorageError."""
        return reading.offset_at(self._database, generation, wall_ms)

    def state(self, generation: Generation, kind: StateKind) -> Iterator[tuple[bytes, bytes]]:
        """Derived rows of one kind, by key, as of this call. Raises StorageError."""
        return reading.scan_state(self._database, generation, kind)

    # -- writes: from one thread at a time -------------------------------------------------------------------------

    def write(self, ops: Sequence[WriteOp]) -> None:
        """See ``ports.Store.write``. Ops that break the log's order are a bug and fail an assertion."""
        self._database.check()
        builder = BatchBuilder(self._database.batch(), self._tails, self._generations)
        for op in ops:
            builder.add(op)
        self._database.write(builder.finish())
        self._tails.update(builder.tails)
        for group, generation in builder.generations.items():
            if generation is None:
                self._generations.pop(group, None)
            else:
                self._generations[group] = generation
        self._term = max(self._term, builder.term)
        self._groups = max(self._groups, builder.groups)

    def sync(self) -> None:
        """See ``ports.Store.sync``.

        The marker is made durable at most once in ``SETTLE_EVERY_S``: it is a second file, and its sync would stand in
        the way of every acknowledgement. Ceilings are the exception; see the README.
        """
        sequence = self._database.sequence
        if sequence == self._marker.mark.sequence:
            self.settle()
            return
        if not self._marker.mark.covers(self._term, self._groups):
            # Ceilings first: a vote in this term, or in this group, may be answered as soon as the sync is done.
            self._note(self._marker.mark.sequence)
            self.settle()
        elif time.monotonic() - self._settled_at >= SETTLE_EVERY_S:
            self.settle()
        self._database.sync()
        self._note(sequence)

    def settle(self) -> None:
        """See ``ports.Store.settle``."""
        self._database.check()
        try:
            self._marker.settle()
            self._settled_at = time.monotonic()
        except OSError as error:
            raise self._database.fail("the tail marker cannot be synced", error) from error

    def reclaim(self, spare: int) -> None:
        """Give the room of removed rows back to the file system. Takes seconds, on a thread of its own, beside reads
        and writes; takes up to `spare` bytes more before it gives any. Raises StorageError."""
        for family in REPLICA_FAMILIES:
            self._database.flush(family)
        for family in REPLICA_FAMILIES:
            self._database.compact(family, spare)

    def _note(self, sequence: int) -> None:
        mark = replace(self._marker.mark, sequence=sequence, term=self._term, groups=self._groups)
        try:
            self._marker.note(mark)
        except OSError as error:
            raise self._database.fail("the tail marker cannot be written", error) from error

    def close(self) -> None:
        """Flush, close, unlock. Idempotent. After a failure nothing is flushed. Raises StorageError."""
        if self._closed:
            return
        self._closed = True
        with ExitStack() as stack:
            stack.callback(self._directory.release)
            stack.callback(self._marker.close)
            stack.callback(self._database.close)
            if self._database.usable:
                self.sync()
                self.settle()
