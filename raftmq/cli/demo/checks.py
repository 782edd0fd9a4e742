"""What the demo claims, as pure functions over what was acknowledged, what was read back, and what replicas say.

Each returns a ``Check`` with the evidence, and each can fail: the tests show how.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

Offender = TypeVar("Offender")

SHOWN = 3
"""How many offenders a failed check names."""


class Sent(NamedTuple):
    """An acknowledged record."""

    row: int
    key: bytes | None
    digest: bytes


class Read(NamedTuple):
    """A record that the consumer gave."""

    partition: int
    offset: int
    row: int
    key: bytes | None
    digest: bytes


class Replica(NamedTuple):
    """What one node says of its replica of one partition."""

    node: int
    partition: int
    log_index: int
    chain_hash: bytes


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    passed: bool
    evidence: str


def digest(value: bytes | None) -> bytes:
    """Eight bytes that stand for a value, so that a change on the way is seen without keeping all values."""
    return hashlib.blake2b(value or b"", digest_size=8).digest()


def all_acknowledged(rows: int, sent: Sequence[Sent]) -> Check:
    """Every row of the input was sent and acknowledged: without this one, the others could hold of nothing."""
    known = {record.row for record in sent}
    missing = [row for row in range(rows) if row not in known]
    return _check("all acknowledged", missing, f"{rows:,} rows", "rows were not acknowledged", lambda row: f"row {row}")


def nothing_lost(sent: Sequence[Sent], read: Sequence[Read]) -> Check:
    """Every acknowledged record was read back, with the key and value it was sent with."""
    seen = {(record.row, record.key, record.digest) for record in read}
    missing = [record for record in sent if (record.row, record.key, record.digest) not in seen]
    return _check(
        "nothing lost",
        missing,
        f"{len(sent):,} acknowledged, all read back unchanged",
        "are lost or changed",
        lambda record: f"row {record.row}",
    )


def nothing_twice(read: Sequence[Read]) -> Check:
    """No row was read twice, and no place in a partition was given twice."""
    rows = Counter(record.row for record in read)
    places = Counter((record.partition, record.offset) for record in read)
    repeated = [f"row {row} ({times} times)" for row, times in rows.items() if times > 1]
    repeated += [f"partition {p} offset {o} ({times} times)" for (p, o), times in places.items() if times > 1]
    return _check("nothing twice", repeated, f"{len(read):,} read, no row twice", "repeats", str)


def nothing_foreign(sent: Sequence[Sent], read: Sequence[Read]) -> Check:
    """Nothing was read that was not acknowledged: with one producer that waits for every answer, there is no more."""
    known = {record.row for record in sent}
    foreign = [record for record in read if record.row not in known]
    return _check(
        "nothing foreign",
        foreign,
        "every record read was one of those sent",
        "were never acknowledged",
        lambda record: f"row {record.row} at partition {record.partition} offset {record.offset}",
    )


def keys_in_order(read: Sequence[Read]) -> Check:
    """The rows of each key lie in one partition, in rising order by offset."""
    by_key: dict[bytes, list[Read]] = defaultdict(list)
    for record in read:
        if record.key is not None:
            by_key[record.key].append(record)
    broken = []
    for key, records in by_key.items():
        rows = [record.row for record in sorted(records, key=lambda record: (record.partition, record.offset))]
        if len({record.partition for record in records}) > 1:
            broken.append(f"key {key.decode(errors='replace')} (in several partitions)")
        elif rows != sorted(rows):
            broken.append(f"key {key.decode(errors='replace')}")
    return _check(
        "each key in row order",
        broken,
        f"{len(by_key):,} keys, each in one partition and in order",
        "keys are out of order",
        str,
    )


def replicas_equal(replicas: Sequence[Replica], nodes: Iterable[int], partitions: int) -> Check:
    """All `nodes` hold every one of `partitions` partitions, at the same log index with the same chain hash."""
    answers: Mapping[int, dict[int, Replica]] = {partition: {} for partition in range(partitions)}
    for replica in replicas:
        answers[replica.partition][replica.node] = replica
    expected = set(nodes)
    broken = []
    for partition, by_node in answers.items():
        if missing := sorted(expected - set(by_node)):
            broken.append(f"partition {partition} (no answer from node {', '.join(map(str, missing))})")
        elif any(replica.log_index == 0 or not replica.chain_hash for replica in by_node.values()):
            broken.append(f"partition {partition} (a replica without a chain hash)")
        elif len({(replica.log_index, replica.chain_hash) for replica in by_node.values()}) != 1:
            broken.append(f"partition {partition}")
    compared = ", ".join(
        f"{partition} at {next(iter(by_node.values())).log_index:,}"
        for partition, by_node in answers.items()
        if by_node
    )
    return _check(
        "replicas equal",
        broken,
        f"{len(expected)} replicas each of partition (at log index): {compared}",
        "differ",
        str,
    )


def _check(
    name: str, offenders: Sequence[Offender], evidence: str, complaint: str, show: Callable[[Offender], str]
) -> Check:
    if not offenders:
        return Check(name, True, evidence)
    shown = ", ".join(show(offender) for offender in offenders[:SHOWN])
    more = ", ..." if len(offenders) > SHOWN else ""
    return Check(name, False, f"{len(offenders):,} {complaint}: {shown}{more}")
