"""What every store checks of what it reads, so that a fake is no more lenient than the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from raftmq.ids import Generation, LogIndex
from raftmq.ports import StorageError
from raftmq.raft.types import EntryKind
from raftmq.records.entry import CorruptEntry, LogEntry, chain_follows, decode

_KIND_AT = 1


def is_data_row(row: bytes) -> bool:
    """True where an undecoded row says that it has a payload. A wrong answer is found by the row's checksum."""
    return len(row) > _KIND_AT and row[_KIND_AT] == EntryKind.DATA


def decode_entry(generation: Generation, row: bytes, payload: bytes | None) -> LogEntry:
    """``decode`` with the errors of the port."""
    try:
        return decode(row, payload)
    except CorruptEntry as error:
        raise StorageError(f"an entry of generation {generation} is corrupt: {error}") from error


def checked(generation: Generation, first: LogIndex, entries: Iterable[LogEntry]) -> Iterator[LogEntry]:
    """`entries`, as long as they are what a log holds from `first` on. Raises StorageError at the first that is not.

    The chain hash is checked from the second entry on: what the first follows, only the caller can know.
    """
    expected, chain = first, None
    for entry in entries:
        if entry.index != expected:
            raise StorageError(f"generation {generation} has entry {entry.index} where {expected} should be")
        if chain is not None and not chain_follows(chain, entry):
            raise StorageError(f"generation {generation}: the chain of hashes breaks at entry {entry.index}")
        expected, chain = LogIndex(entry.index + 1), entry.chain
        yield entry
