"""How RocksDB is set up. Each value has its reason beside it; they were chosen by measuring, not by taste."""

from __future__ import annotations

from dataclasses import dataclass

from rocksdict import BottommostLevelCompaction, CompactOptions, DBRecoveryMode, Options, WriteOptions

from raftmq.storage.keys import Family

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes in bytes. Tests make them small; nothing else should change them."""

    data_memtable: int = 64 * MIB
    """Of ``log`` and ``payload``. Larger ones were not faster and made a restart slower."""
    data_memtables: int = 4
    """So that a slow flush does not stall writes."""
    small_memtable: int = 16 * MIB
    wal_total: int = 256 * MIB
    """Memtables of small families never fill and would pin every write-ahead log: a restart after a crash
    would then replay gigabytes."""
    blob_from: int = 1024
    """Larger payloads go to blob files: each byte is then written twice at most, not at every compaction."""
    blob_age_cutoff: float = 0.05
    """Share of the oldest blob files whose live values a compaction rewrites. Low: a log is dropped in the order
    in which it was written, so the oldest files are soon empty as a whole, and rewriting is waste."""


def database_options(tuning: Tuning, *, create: bool, whole: bool = False) -> Options:
    """Options of the database as a whole. `whole`: a write-ahead log that ends with half a record is refused."""
    options = Options(raw_mode=True)
    if whole:
        options.set_wal_recovery_mode(DBRecoveryMode.absolute_consistency())
    options.create_if_missing(create)
    options.create_missing_column_families(create)
    options.set_max_total_wal_size(tuning.wal_total)
    # RocksDB's own diary, not the write-ahead log.
    options.set_keep_log_file_num(4)
    options.set_max_log_file_size(8 * MIB)
    return options


def family_options(tuning: Tuning) -> dict[str, Options]:
    """Options of each column family. All of them must be named at every open."""
    return {family.value: _family(family, tuning) for family in Family}


def _family(family: Family, tuning: Tuning) -> Options:
    options = Options(raw_mode=True)
    if family not in (Family.LOG, Family.PAYLOAD):
        options.set_write_buffer_size(tuning.small_memtable)
        return options
    options.set_write_buffer_size(tuning.data_memtable)
    options.set_max_write_buffer_number(tuning.data_memtables)
    if family is Family.PAYLOAD:
        # Only here: a scan over keys with values in blob files reads the values, and `log` is there to be scanned.
        options.set_enable_blob_files(True)
        options.set_min_blob_size(tuning.blob_from)
        options.set_enable_blob_gc(True)
        options.set_blob_gc_age_cutoff(tuning.blob_age_cutoff)
    return options


def forced() -> CompactOptions:
    """To rewrite the lowest level too: only then are values of old blob files moved."""
    options = CompactOptions()
    options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
    return options


def write_options() -> WriteOptions:
    """Never ``sync``: that would hold the GIL for the whole fsync. A stall is to be an error, not a wait (with the
    GIL held)."""
    options = WriteOptions()
    options.sync = False
    options.no_slowdown = True
    return options
