"""Opening a data directory: whose is it, is it whole, and the boot count.

First open of an empty directory: a marker of boot 0 that holds a fresh store id, then the database, then the
identity row in it, then a marker of boot 1. Each step is durable before the next, so after a crash at any point the
next open goes on where this one stopped; and from the first step on, a missing marker or database is a loss, not an
empty directory.

Every open raises the boot count in the identity row, and flushes that row out of the write-ahead log: losing the log
must not lose the name. What happens when the disk turns out to have lost synced writes is told in suspicion.py.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from raftmq.ids import BootCount, NodeId, StoreId, Term
from raftmq.ports import ReplicaRow, StorageError, StorageRefused
from raftmq.storage.database import Database
from raftmq.storage.directory import DataDirectory
from raftmq.storage.keys import IDENTITY_KEY, Family, group_key, key_group
from raftmq.storage.marker import Mark, Marker, MarkerLost, read_marker
from raftmq.storage.options import Tuning
from raftmq.storage.rows import (
    DiskIdentity,
    UnknownFormat,
    decode_identity,
    decode_replica,
    encode_identity,
    encode_replica,
)
from raftmq.storage.suspicion import first_mark, loss, next_boot, suspect

FOUNDING = Mark(BootCount(0), 0, Term(0), 0)
"""Mark of a directory in which no open has come to its end yet."""

_START_OVER = (
    "Move the directory away: the node then starts with an empty disk, as a new store that has to be admitted anew"
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A directory in use. ``suspect_reason`` None: nothing is missing."""

    database: Database
    marker: Marker
    disk: DiskIdentity
    suspect_reason: str | None


@dataclass(frozen=True, slots=True)
class _Found:
    """What the marker file said. ``mark`` None: nothing, because of ``problem``."""

    store_id: StoreId
    mark: Mark | None
    problem: str | None = None


def open_disk(directory: DataDirectory, node: NodeId, tuning: Tuning) -> Opened:
    """Raises StorageRefused, StorageError or OSError; then nothing is left open."""
    found = _find(directory)
    founding = found.mark == FOUNDING
    database = Database(directory.database, tuning, create=founding)
    try:
        before = _identify(database, directory, node, found)
        return _boot(database, directory, before, found)
    except BaseException:
        database.close(flush=False)
        raise


def read_replicas(database: Database) -> list[ReplicaRow]:
    """Every row of ``raft``, by group. Raises StorageError, which names the group where one is known."""
    rows = []
    with database.scan(Family.RAFT, b"", b"\xff" * 9) as cursor:
        for key, value in cursor:
            try:
                row = decode_replica(value)
            except UnknownFormat:
                raise
            except StorageError as error:
                raise StorageError(f"group {key_group(key)}: {error}") from error
            if key_group(key) != row.group:
                raise StorageError(f"the row of group {key_group(key)} is of group {row.group}")
            rows.append(row)
    return rows


def _find(directory: DataDirectory) -> _Found:
    if not directory.has_marker and not directory.has_database:
        store_id = StoreId(secrets.randbits(63) or 1)
        Marker(directory.marker, store_id, FOUNDING).close()
        return _Found(store_id, FOUNDING)
    try:
        found = _Found(*read_marker(directory.marker))
    except MarkerLost as problem:
        found = _Found(StoreId(0), None, str(problem))
    if found.mark != FOUNDING and not directory.has_database:
        raise StorageRefused(f"{directory.path} has a tail marker but no database. {_START_OVER}")
    return found


def _identify(database: Database, directory: DataDirectory, node: NodeId, found: _Found) -> DiskIdentity:
    """The identity row as the last open left it; boot count 0 where this is the first."""
    value = database.get(Family.NODE, IDENTITY_KEY)
    if value is None:
        if found.mark != FOUNDING:
            raise StorageRefused(
                f"the database in {directory.path} does not know whose it is: it lost everything. {_START_OVER}"
            )
        return DiskIdentity(node, found.store_id, BootCount(0))
    identity = decode_identity(value)
    if identity.node != node:
        raise StorageRefused(
            f"{directory.path} is the data directory of node {identity.node}, not of node {node}: check the path, "
            "and the node's number in the configuration"
        )
    return identity


def _promises(database: Database, directory: DataDirectory, disk: DiskIdentity) -> list[ReplicaRow]:
    """Every row of ``raft``. Raises StorageRefused where one cannot be read: see replica/damage.py for why that is not
    mended like other damage."""
    try:
        return read_replicas(database)
    except UnknownFormat:
        raise
    except StorageError as error:
        raise StorageRefused(
            f"{directory.path} no longer says what its replicas have promised to others: {error}. Nothing on it may "
            f"take part again. {_START_OVER}: start node {disk.node} with it, then run "
            f"'raftmq cluster repair-node {disk.node}'. Keep what was moved away until 'raftmq cluster status' shows "
            "all partitions in sync"
        ) from error


def _boot(database: Database, directory: DataDirectory, before: DiskIdentity, found: _Found) -> Opened:
    mark, problem = found.mark, found.problem
    if mark is not None and found.store_id != before.store_id:
        mark, problem = None, "the tail marker belongs to another disk"
    if mark is not None:
        problem = loss(mark, before.boot_count, database.sequence)
    rows = _promises(database, directory, before)
    disk = replace(before, boot_count=next_boot(mark, before.boot_count))
    batch = database.batch()
    if problem is not None:
        suspicion = suspect(rows, mark, before.lost)
        disk = replace(disk, lost=suspicion.lost)
        for row in suspicion.rows:
            batch.put(Family.RAFT, group_key(row.group), encode_replica(row))
    batch.put(Family.NODE, IDENTITY_KEY, encode_identity(disk))
    database.write(batch, wait=True)
    database.sync()
    database.flush(Family.NODE)
    mark = first_mark(disk, mark, read_replicas(database), database.sequence)
    return Opened(database, Marker(directory.marker, disk.store_id, mark), disk, problem)
