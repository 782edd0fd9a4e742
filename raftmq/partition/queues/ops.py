"""What the ops make of a group: each is decided here, at apply, by every replica alike."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import zip_longest

from raftmq.ids import LeaseId, Offset
from raftmq.partition.queues.commands import (
    DONE,
    Cancel,
    Configure,
    Done,
    Extend,
    Extended,
    Grant,
    Granted,
    Introduce,
    Introduced,
    Redrive,
    Redriven,
    Refusal,
    Refused,
    Routed,
    Settle,
    Settled,
    Status,
    Verdict,
)
from raftmq.partition.queues.group import Now, QueueGroup
from raftmq.partition.queues.leases import Lease
from raftmq.partition.queues.settings import AtEnd
from raftmq.partition.queues.tally import Counter

LEASE_EXPIRED = "LEASE_EXPIRED"
"""Why a record is parked whose last lease ran out."""
TOO_MANY_FAILURES = "TOO_MANY_FAILURES"
"""The same, where a worker gave no reason."""
_EMPTY = Granted(LeaseId(0), 0, (), {})


def configure(group: QueueGroup, op: Configure, now: Now) -> Done | Refused:
    """Other settings for a group that is there."""
    before = group.settings
    if op.settings.age <= before.age:
        return Refused(Refusal.STALE)
    group.settings = op.settings
    group.processed.trim(op.settings.processed_keys_max)
    if (before.ordering, before.is_fair) != (op.settings.ordering, op.settings.is_fair):
        group.reindex(now)
    return DONE


def introduce(group: QueueGroup, op: Introduce, committed: Offset, now: Now) -> Introduced | Refused:
    """Records become known."""
    if op.first != group.frontier or op.next > committed:
        return Refused(Refusal.STALE)
    group.frontier = op.next
    group.open.add_range(op.first, op.next)
    records = group.records
    for column, hashes in ((records.keys, op.keys), (records.lanes, op.lanes)):
        for position, value in enumerate(hashes):
            if value:
                records.set(column, op.first + position, value)
    for special in op.specials:
        records.set(records.priorities, special.offset, special.priority)
        records.set(records.due, special.offset, 2 * special.deliver_at_ms)
        records.set(records.expires, special.offset, special.expires_at_ms)
        if special.expires_at_ms > now.wall_ms:
            group.expiries.add(special.expires_at_ms, special.offset)
    if op.specials or group.settings.is_fair or (group.is_ordered and op.keys):
        for offset in range(op.first, op.next):
            group.admit(offset, now)
    else:
        group.dispatch.add_range(op.first, op.next)
    return Introduced(Offset(group.frontier))


def grant(group: QueueGroup, op: Grant, now: Now) -> Granted:
    """Lease what is ready, as far as nothing holds the group back."""
    settings = group.settings
    count = min(op.max, group.grantable(now.log_tick))
    if count == 0:
        return _EMPTY
    offsets = group.dispatch.take(count)
    if settings.drain_per_s:
        group.drain.take(group.rate, now.log_tick, count)
    lease_id, group.next_lease = group.next_lease, LeaseId(group.next_lease + 1)
    deadline = now.log_tick + (op.lease_ms or settings.lease_ms)
    group.leases.add(lease_id, Lease(op.worker, op.secret, deadline, array("Q", sorted(offsets))))
    group.counters[Counter.HANDED_OUT] += count
    again: dict[int, tuple[int, int]] = {}
    if group.records.handouts.pages:
        handouts, failures = group.records.handouts, group.records.failures
        again = {offset: (handouts[offset] + 1, failures[offset]) for offset in offsets if handouts[offset]}
    if group.is_ordered:
        for offset in offsets:
            group.lease(offset)
    return Granted(lease_id, deadline, offsets.tolist(), again)


def settle(group: QueueGroup, op: Settle, now: Now) -> Settled:
    """A worker's verdict on records that it has, or had."""
    lease = group.leases.get(op.lease)
    if lease is None or lease.secret != op.secret:
        return Settled((Status.LEASE_EXPIRED,) * len(op.offsets))
    if op.verdict is Verdict.ACK and not op.processed_keys and not group.is_ordered and _is_whole(lease, op.offsets):
        group.leases.settle(op.lease, lease, lease.outstanding, Verdict.ACK)
        group.close_many(lease.offsets, Counter.ACKED)
        group.breaker.succeeded()
        return Settled((Status.OK,) * len(op.offsets))
    keys = op.processed_keys or (b"",) * len(op.offsets)
    pairs = zip(op.offsets, keys, strict=True)
    return Settled(tuple([_settle_one(group, lease, op, offset, key, now) for offset, key in pairs]))


def _is_whole(lease: Lease, offsets: Sequence[int]) -> bool:
    """All of a lease, and nothing was said of it before."""
    return lease.outstanding == (1 << len(offsets)) - 1 and array("Q", offsets) == lease.offsets


def _settle_one(group: QueueGroup, lease: Lease, op: Settle, offset: int, key: bytes, now: Now) -> Status:
    position = lease.position(offset)
    if position is None:
        return Status.LEASE_EXPIRED
    if not lease.outstanding >> position & 1:
        return Status.DUPLICATE if lease.said(position, op.verdict) else Status.LEASE_EXPIRED
    group.leases.settle(op.lease, lease, 1 << position, op.verdict)
    group.unlease(offset)
    match op.verdict:
        case Verdict.ACK:
            group.breaker.succeeded()
            group.close(offset, Counter.ACKED, now)
            most = group.settings.processed_keys_max
            if key and not group.processed.remember(key, most, offset, now.wall_ms):
                return Status.ALREADY_PROCESSED
        case Verdict.RELEASE:
            group.counters[Counter.RELEASED] += 1
            group.count_handout(offset)
            group.give_back(offset, now)
        case Verdict.RETRY:
            group.counters[Counter.RETRIED] += 1
            group.count_handout(offset)
            salt = op.lease << 32 ^ offset
            return _fail(group, offset, op.reason or TOO_MANY_FAILURES, op.error, op.delay_ms, salt, now)
        case Verdict.PARK:
            group.count_handout(offset)
            group.park(offset, op.reason, op.error, now)
    return Status.OK


def _fail(group: QueueGroup, offset: int, reason: str, error: str, delay_ms: int | None, salt: int, now: Now) -> Status:
    """A record that was handed out has failed: again after a while, or to its end."""
    settings, records = group.settings, group.records
    failures = records.failures[offset] + 1
    records.set(records.failures, offset, failures)
    if group.breaker.failed(settings.breaker_failures, now.log_tick, settings.breaker_pause_ms):
        group.counters[Counter.BREAKER_OPENED] += 1
    if settings.attempts_max and failures >= settings.attempts_max:
        if settings.at_end is AtEnd.DROP:
            group.close(offset, Counter.DROPPED, now)
            return Status.DROPPED
        group.park(offset, reason, error, now)
        return Status.PARKED
    delay = settings.backoff.delay_ms(failures, salt) if delay_ms is None else delay_ms
    records.set(records.due, offset, 2 * (now.log_tick + delay) + 1 if delay else 0)
    group.give_back(offset, now)
    return Status.OK


def expire(group: QueueGroup, now: Now) -> None:
    """Leases that are over: each of their records was handed out once more, and has failed if the settings say so."""
    for lease in group.leases.expire(now.log_tick):
        for offset in lease.open_offsets():
            group.unlease(offset)
            group.count_handout(offset)
            group.counters[Counter.LEASE_EXPIRED] += 1
            if group.settings.expiry_is_failure:
                _fail(group, offset, LEASE_EXPIRED, f"the lease of worker {lease.worker!r} ran out", 0, 0, now)
            else:
                group.give_back(offset, now)


def extend(group: QueueGroup, op: Extend, now: Now) -> Extended | Refused:
    """A lease lasts longer."""
    lease = group.leases.get(op.lease)
    if lease is None or lease.secret != op.secret or not lease.outstanding:
        return Refused(Refusal.LEASE_EXPIRED)
    deadline = max(lease.deadline, now.log_tick + op.lease_ms)
    if deadline > lease.deadline:
        group.leases.extend(op.lease, lease, deadline)
    return Extended(deadline)


def redrive(group: QueueGroup, op: Redrive, now: Now) -> Redriven:
    """Parked records are delivered again."""
    records, limit = group.records, group.settings.redrives_max
    driven: list[int] = []
    not_parked: list[int] = []
    looping: list[int] = []
    for offset in op.offsets:
        if offset not in group.parked.offsets:
            not_parked.append(offset)
        elif limit and records.redrives[offset] >= limit:
            looping.append(offset)
        else:
            driven.append(offset)
            group.parked.remove(offset)
            records.set(records.redrives, offset, records.redrives[offset] + 1)
            records.set(records.failures, offset, 0)
            records.set(records.due, offset, 0)
            group.counters[Counter.REDRIVEN] += 1
            group.admit(offset, now)
    return Redriven(tuple(driven), tuple(not_parked), tuple(looping))


def routed(group: QueueGroup, op: Routed) -> Done:
    """Parked records have been copied to a topic of dead letters."""
    for offset, tick in zip_longest(op.offsets, op.parked_ticks):
        record = group.parked.get(offset)
        if record is None or tick not in (None, record.log_tick):
            continue
        if op.remove:
            group.close_parked(offset, Counter.ROUTED)
        elif group.parked.mark_routed(offset):
            group.counters[Counter.ROUTED] += 1
    return DONE


def cancel(group: QueueGroup, op: Cancel, now: Now) -> Done | Refused:
    """A record that waits for its time is not delivered."""
    if op.offset >= group.frontier:
        return Refused(Refusal.NOT_INTRODUCED)
    due = group.records.due[op.offset]
    is_due = due >> 1 <= (now.log_tick if due & 1 else now.wall_ms)
    if is_due or not group.close_idle(op.offset, Counter.CANCELLED, now):
        return Refused(Refusal.NOT_WAITING)
    return DONE
