"""Column families and their keys.

Every key is made of fixed-width big-endian numbers, so that RocksDB's byte order is their numeric order and one
generation of a replica is one contiguous range in each family it has rows in::

    log      generation u64, log index u64      row of the entry (records/entry.py)
    payload  generation u64, log index u64      a data entry's opaque bytes
    offsets  generation u64, base offset u64    OffsetRow (rows.py)
    times    generation u64, second u64         first offset that was appended in that second, u64
    raft     group u64                          ReplicaRow, protobuf
    state    generation u64, kind u8, key       derived state, opaque
    held     generation u64, offset u64         records that outlive the log
    node     name                               rows of the node itself, opaque

A generation lies in 0 .. 2**63 - 1, so that the one after it is a number too: it ends the range.
"""

from __future__ import annotations

import re
import struct
from enum import StrEnum

from raftmq.ids import Generation, GroupId
from raftmq.ports import StateKind, StorageError

GENERATION_MAX = (1 << 63) - 1
TIME_BUCKET_MS = 1000
"""Width of a bucket of the ``times`` family."""

_ONE = struct.Struct(">Q")
_PAIR = struct.Struct(">QQ")
_STATE = struct.Struct(">QB")


class Family(StrEnum):
    """A column family. The names are on disk: never change one."""

    LOG = "log"
    PAYLOAD = "payload"
    OFFSETS = "offsets"
    TIMES = "times"
    RAFT = "raft"
    STATE = "state"
    HELD = "held"
    NODE = "node"


REPLICA_FAMILIES = (Family.LOG, Family.PAYLOAD, Family.OFFSETS, Family.TIMES, Family.STATE, Family.HELD)
"""The families whose keys start with a generation."""


def pair_key(generation: Generation, number: int) -> bytes:
    """Key of ``log``, ``payload``, ``offsets``, ``times`` and ``held``: a generation and a number in it."""
    return _PAIR.pack(generation, number)


def pair_number(key: bytes, generation: Generation) -> int:
    """The number of a pair key. Raises StorageError where the key is none, or of another generation."""
    if len(key) != _PAIR.size:
        raise StorageError(f"a key has {_PAIR.size} bytes, this one {len(key)}: {key.hex()}")
    found, number = _PAIR.unpack(key)
    if found != generation:
        raise StorageError(f"a scan of generation {generation} came upon generation {found}")
    return int(number)


def number_value(number: int) -> bytes:
    """Value of a ``times`` row."""
    return _ONE.pack(number)


def value_number(value: bytes) -> int:
    """The number in a ``times`` row. Raises StorageError."""
    if len(value) != _ONE.size:
        raise StorageError(f"a number has {_ONE.size} bytes, this one {len(value)}")
    return int(_ONE.unpack(value)[0])


def generation_range(generation: Generation) -> tuple[bytes, bytes]:
    """Bounds [begin, end) of every key of a generation."""
    assert 0 <= generation <= GENERATION_MAX, f"generation {generation} is out of range"
    return _ONE.pack(generation), _ONE.pack(generation + 1)


def group_key(group: GroupId) -> bytes:
    """Key of ``raft``."""
    return _ONE.pack(group)


def key_group(key: bytes) -> GroupId:
    """The group of a ``raft`` key. Raises StorageError."""
    return GroupId(value_number(key))


def state_key(generation: Generation, kind: StateKind, key: bytes) -> bytes:
    return _STATE.pack(generation, kind) + key


def state_range(generation: Generation, kind: StateKind) -> tuple[bytes, bytes]:
    """Bounds [begin, end) of the ``state`` rows of one kind. A kind is at most 254."""
    assert 0 < kind < 255
    return _STATE.pack(generation, kind), _STATE.pack(generation, kind + 1)


def state_suffix(key: bytes, generation: Generation, kind: StateKind) -> bytes:
    """What follows generation and kind in a ``state`` key. Raises StorageError where those two differ."""
    prefix = _STATE.pack(generation, kind)
    if not key.startswith(prefix):
        raise StorageError(f"a scan of generation {generation}, kind {kind} came upon {key.hex()}")
    return key[len(prefix) :]


def node_key(name: str) -> bytes:
    """Key of ``node``. A name is printable ASCII, so that the store's own row (IDENTITY_KEY) is out of reach."""
    assert re.fullmatch("[ -~]+", name), f"{name!r} cannot name a row"
    return name.encode("ascii")


IDENTITY_KEY = b"\0identity"
"""The store's own row in ``node``: written at every open, not to be reached through ``PutNode``."""
