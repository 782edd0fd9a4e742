"""Queue groups as rows of the ``state`` family.

Every key begins with the group's number. A row is a function of the group's state, not of when rows were taken: what is
stored of a replica can be compared with what a replay gives.

| Kind | Then | Value |
|---|---|---|
| QUEUE_GROUP | | ``QueueGroupRow`` |
| QUEUE_OPEN | page of 4,096 offsets | ``QueueOpenRow`` |
| QUEUE_LEASE | lease | ``QueueLeaseRow`` |
| QUEUE_RECORDS | page of 256 offsets | ``QueueRecordsRow`` |
| QUEUE_PARKED | offset | ``QueueParkedRow`` |
| QUEUE_PROCESSED | number | ``QueueProcessedRow`` |
| QUEUE_HELD | offset (no group) | the record |
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from raftmq.ids import LeaseId, QueueId
from raftmq.internal.v1 import queues_pb2
from raftmq.partition.queues.group import QueueGroup
from raftmq.partition.queues.held import Held
from raftmq.partition.queues.leases import Lease, to_bytes
from raftmq.partition.queues.offset_set import WIDTH
from raftmq.partition.queues.processed import ProcessedKeys
from raftmq.partition.queues.settings import QueueSettings
from raftmq.partition.queues.tally import Counter
from raftmq.partition.queues.throttle import Breaker, Drain
from raftmq.records.state_kinds import StateKind

_GROUP_KEY = struct.Struct(">Q")
_KEY = struct.Struct(">QQ")

StateRow = tuple[StateKind, bytes, bytes | None]


def group_key(queue_id: QueueId) -> bytes:
    return _GROUP_KEY.pack(queue_id)


def changed_rows(queue_id: QueueId, group: QueueGroup) -> Iterator[StateRow]:
    """What is not as it was stored, in any order; from now on it counts as stored."""
    yield StateKind.QUEUE_GROUP, group_key(queue_id), _encode_group(group)
    for page in group.open.changed:
        yield StateKind.QUEUE_OPEN, _KEY.pack(queue_id, page), _encode_open(group, page)
    for lease_id in group.leases.changed:
        lease = group.leases.get(lease_id)
        yield StateKind.QUEUE_LEASE, _KEY.pack(queue_id, lease_id), None if lease is None else lease.encode()
    for page in group.records.changed:
        yield StateKind.QUEUE_RECORDS, _KEY.pack(queue_id, page), group.records.encode(page)
    for offset in group.parked.changed:
        yield StateKind.QUEUE_PARKED, _KEY.pack(queue_id, offset), group.parked.encode(offset)
    for number, key in group.processed.changed.items():
        value = None if key is None else group.processed.encode(key)
        yield StateKind.QUEUE_PROCESSED, _KEY.pack(queue_id, number), value
    for changed in (group.open.changed, group.leases.changed, group.records.changed, group.parked.changed):
        changed.clear()
    group.processed.changed.clear()


def all_rows(queue_id: QueueId, group: QueueGroup) -> Iterator[tuple[StateKind, bytes, bytes]]:
    """Everything that there is, by kind and key."""
    yield StateKind.QUEUE_GROUP, group_key(queue_id), _encode_group(group)
    for page in group.open.pages():
        value = _encode_open(group, page)
        assert value is not None
        yield StateKind.QUEUE_OPEN, _KEY.pack(queue_id, page), value
    for lease_id, lease in group.leases:
        yield StateKind.QUEUE_LEASE, _KEY.pack(queue_id, lease_id), lease.encode()
    for page in group.records.pages():
        value = group.records.encode(page)
        assert value is not None
        yield StateKind.QUEUE_RECORDS, _KEY.pack(queue_id, page), value
    for offset in group.parked.offsets:
        value = group.parked.encode(offset)
        assert value is not None
        yield StateKind.QUEUE_PARKED, _KEY.pack(queue_id, offset), value
    for number, key in group.processed.items():
        yield StateKind.QUEUE_PROCESSED, _KEY.pack(queue_id, number), group.processed.encode(key)


def held_key(offset: int) -> bytes:
    return _GROUP_KEY.pack(offset)


def restore_group(value: bytes, held: Held) -> QueueGroup:
    """The group of a QUEUE_GROUP row, without records and leases. Raises ValueError, DecodeError."""
    row = queues_pb2.QueueGroupRow.FromString(value)
    group = QueueGroup(QueueSettings.from_proto(row.settings), row.start, held)
    group.frontier, group.closed = row.frontier, row.closed
    group.next_lease = LeaseId(row.next_lease)
    group.is_paused = row.is_paused
    if len(row.counters) > len(Counter):
        raise ValueError(f"{len(row.counters)} counters")
    group.counters[: len(row.counters)] = row.counters
    group.dispatch.cursor = row.lane_cursor
    group.drain = Drain(row.drain_tokens, row.drain_tick)
    group.breaker = Breaker(row.breaker_failures, row.breaker_until)
    group.processed = ProcessedKeys(row.processed_total)
    return group


def restore_row(groups: dict[QueueId, QueueGroup], kind: StateKind, key: bytes, value: bytes) -> None:
    """Take over a row of one of `groups`. Raises ValueError, DecodeError, OverflowError, struct.error."""
    queue_id, number = _KEY.unpack(key)
    group = groups.get(QueueId(queue_id))
    if group is None:
        raise ValueError(f"a row of queue group {queue_id}, which is not there")
    match kind:
        case StateKind.QUEUE_OPEN:
            bits = int.from_bytes(queues_pb2.QueueOpenRow.FromString(value).open, "little")
            if bits >> WIDTH:
                raise ValueError("a page of too many offsets")
            group.open.set_page(number, bits)
        case StateKind.QUEUE_LEASE:
            group.leases.add(LeaseId(number), Lease.decode(value))
        case StateKind.QUEUE_RECORDS:
            group.records.decode(number, value)
        case StateKind.QUEUE_PARKED:
            group.parked.add(number, group.parked.decode(value))
        case StateKind.QUEUE_PROCESSED:
            group.processed.restore(number, value)
        case _:
            raise ValueError(f"no row of a queue group: {kind!r}")


def stored(group: QueueGroup) -> None:
    """Everything of it counts as stored."""
    for changed in (group.open.changed, group.leases.changed, group.records.changed, group.parked.changed):
        changed.clear()
    group.processed.changed.clear()


def _encode_open(group: QueueGroup, page: int) -> bytes | None:
    bits = group.open.page(page)
    return queues_pb2.QueueOpenRow(open=to_bytes(bits)).SerializeToString() if bits else None


def _encode_group(group: QueueGroup) -> bytes:
    return queues_pb2.QueueGroupRow(
        settings=group.settings.to_proto(),
        start=group.start,
        frontier=group.frontier,
        closed=group.closed,
        next_lease=group.next_lease,
        is_paused=group.is_paused,
        counters=group.counters,
        lane_cursor=group.dispatch.cursor,
        drain_tokens=group.drain.tokens,
        drain_tick=group.drain.tick,
        breaker_failures=group.breaker.failures,
        breaker_until=group.breaker.until,
        processed_total=group.processed.total,
    ).SerializeToString()
