"""Is a stopped node's disk whole? Everything that is stored is read once and compared with everything it depends on.

Nothing is repaired or changed. What is looked at:

    the directory     whose it is, who may read it, what else lies in it
    the tail marker   both slots; every write that it says was synced is there
    the node          the identity row
    each replica      see ``verify_log``
    the rest          rows that belong to no replica

A finding is an ERROR where something is lost or wrong, and a NOTE where a node would go on without loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from raftmq.ids import Generation, GroupId
from raftmq.ports import ReplicaRow, StorageError, StorageRefused
from raftmq.storage.database import Database
from raftmq.storage.directory import DataDirectory
from raftmq.storage.keys import (
    GENERATION_MAX,
    IDENTITY_KEY,
    REPLICA_FAMILIES,
    Family,
    generation_range,
    key_group,
    value_number,
)
from raftmq.storage.marker import SLOT_BYTES, MarkerLost, decode_mark, read_marker
from raftmq.storage.options import Tuning
from raftmq.storage.rows import DiskIdentity, UnknownFormat, decode_identity, decode_replica
from raftmq.storage.suspicion import loss
from raftmq.storage.verify_log import LogReport, check_replica


class Severity(Enum):
    ERROR = "error"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    severity: Severity
    place: str
    """What it is about: "directory", "marker", "database", "node", or "group N"."""
    text: str


@dataclass(slots=True)
class Report:
    """``identity`` None: it could not be read."""

    directory: Path
    identity: DiskIdentity | None = None
    replicas: list[LogReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return all(finding.severity is Severity.NOTE for finding in self.findings)

    def error(self, place: str, text: str) -> None:
        self.findings.append(Finding(Severity.ERROR, place, text))

    def note(self, place: str, text: str) -> None:
        self.findings.append(Finding(Severity.NOTE, place, text))


def verify(path: Path) -> Report:
    """Check the data directory of a node that does not run. Raises StorageRefused where there is nothing to check:
    no such directory, not raftmq's, in use, of a version that is not known here."""
    if not path.is_dir():
        raise StorageRefused(f"there is no directory {path}")
    directory = DataDirectory(path, create=False)
    try:
        if not directory.has_marker and not directory.has_database:
            raise StorageRefused(f"{path} is not raftmq's: there is neither a tail marker nor a database in it")
        report = Report(path)
        for problem in directory.problems():
            report.note("directory", problem)
        _check(directory, report)
    except UnknownFormat as unknown:
        raise StorageRefused(f"{path} cannot be checked: {unknown}") from unknown
    finally:
        directory.release()
    return report


def _check(directory: DataDirectory, report: Report) -> None:
    try:
        database = Database(directory.database, Tuning(), create=False, read_only=True)
    except StorageError as error:
        report.error("database", str(error))
        return
    try:
        report.identity = _identity(database, report)
        _check_marker(directory, database, report)
        _check_replicas(database, report)
    finally:
        database.close(flush=False)
    _check_end(directory, report)


def _identity(database: Database, report: Report) -> DiskIdentity | None:
    try:
        value = database.get(Family.NODE, IDENTITY_KEY)
        if value is None:
            report.error("node", "the database does not know whose it is: the identity row is missing")
            return None
        return decode_identity(value)
    except UnknownFormat:
        raise
    except StorageError as error:
        report.error("node", str(error))
        return None


def _check_marker(directory: DataDirectory, database: Database, report: Report) -> None:
    try:
        store_id, mark = read_marker(directory.marker)
    except MarkerLost as problem:
        report.error("marker", f"{problem}: whether synced writes are missing cannot be told")
        return
    content = directory.marker.read_bytes()
    for number, at in enumerate((0, SLOT_BYTES), start=1):
        try:
            decode_mark(content[at : at + SLOT_BYTES])
        except MarkerLost as problem:
            report.note("marker", f"slot {number}: {problem}; the other one is whole, as after a crash")
    identity = report.identity
    if identity is None:
        return
    if store_id != identity.store_id:
        report.error("marker", f"it is of store {store_id:x}, the database of store {identity.store_id:x}")
    elif lost := loss(mark, identity.boot_count, database.sequence):
        report.error("database", f"synced writes are missing: {lost}")


def _check_end(directory: DataDirectory, report: Report) -> None:
    """Last, so that the database is not open twice."""
    try:
        Database(directory.database, Tuning(), create=False, read_only=True, whole=True).close(flush=False)
    except StorageError:
        report.note(
            "database",
            "the write-ahead log does not end with a whole record, as after a crash; what the tail marker "
            "covers was compared with it",
        )


def _check_replicas(database: Database, report: Report) -> None:
    known: set[Generation] = set()
    for row in _rows(database, report):
        known.add(row.generation)
        place = f"group {row.group}"
        if row.damaged is not None:
            known.add(row.damaged)
            report.note(place, f"it was found damaged; generation {row.damaged} is kept until it has caught up")
        if row.installing is not None:
            known.add(row.installing)
            report.note(place, f"a snapshot was being written, to generation {row.installing}: the node will drop it")
        if row.installing is not None:
            known.add(row.installing)
            report.note(
                place, "a snapshot was on its way when the node stopped: the next start removes what came of it"
            )
        checked = check_replica(database, row)
        report.replicas.append(checked)
        for text in checked.problems:
            report.error(place, text)
        for text in checked.notes:
            report.note(place, text)
    left: dict[int, list[str]] = {}
    for family in REPLICA_FAMILIES:
        try:
            for generation in _generations(database, family):
                if generation not in known:
                    left.setdefault(generation, []).append(family.value)
        except StorageError as error:
            report.error("database", f"{family.value}: {error}")
    for generation, families in sorted(left.items()):
        report.note("database", f"generation {generation} belongs to no replica: left over in {', '.join(families)}")


def _rows(database: Database, report: Report) -> Iterator[ReplicaRow]:
    try:
        with database.scan(Family.RAFT, b"", b"\xff" * 9) as cursor:
            stored = list(cursor)
    except StorageError as error:
        report.error("database", f"the replicas' rows cannot be read: {error}")
        return
    for key, value in stored:
        group: GroupId | str = key.hex()
        try:
            group = key_group(key)
            row = decode_replica(value)
            if row.group != group:
                raise StorageError(f"its row is of group {row.group}")
        except UnknownFormat:
            raise
        except StorageError as error:
            report.error(f"group {group}", str(error))
        else:
            yield row


def _generations(database: Database, family: Family) -> Iterator[int]:
    """Of which there is a row."""
    begin, end = generation_range(Generation(0))[0], generation_range(Generation(GENERATION_MAX))[1]
    with database.scan(family, begin, end) as cursor:
        while (row := cursor.next()) is not None:
            generation = Generation(value_number(row[0][:8]))
            yield generation
            cursor.seek(generation_range(generation)[1])
