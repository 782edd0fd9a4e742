"""All queue groups of a partition: a part of ``PartitionMachine``, and what a leader may ask of it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from raftmq.ids import LeaseId, Offset, QueueId
from raftmq.partition.queues import check, ops, rows
from raftmq.partition.queues.check import Depth
from raftmq.partition.queues.commands import (
    DONE,
    Cancel,
    Configure,
    Extend,
    Grant,
    Hold,
    Introduce,
    Pause,
    QueueAnswer,
    QueueCommand,
    QueueOp,
    Redrive,
    Refusal,
    Refused,
    Remove,
    Resume,
    Routed,
    Seek,
    Settle,
    Sought,
)
from raftmq.partition.queues.group import Now, QueueGroup
from raftmq.partition.queues.held import Held
from raftmq.partition.queues.settings import QueueRetention
from raftmq.partition.queues.tally import Counter
from raftmq.partition.queues.throttle import Breaker
from raftmq.records.state_kinds import StateKind

UNKNOWN_GROUP = Refused(Refusal.UNKNOWN_GROUP)


class Bounds(NamedTuple):
    """What of the log there is, as of the entry that is being applied."""

    log_start: Offset
    committed: Offset


class Due(NamedTuple):
    """When the state of queues changes by itself; None: not by that clock."""

    log_tick: int | None
    wall_ms: int | None

    def is_over(self, now: Now) -> bool:
        """Whether that is now, or was."""
        return (self.log_tick is not None and self.log_tick <= now.log_tick) or (
            self.wall_ms is not None and self.wall_ms <= now.wall_ms
        )


class Queues:
    """Deterministic: what it becomes depends on the entries alone. Not thread-safe.

    For leaders: ``groups`` (read only), ``due``, ``depth``, ``pinned``, ``needed_from``, ``held``.
    """

    def __init__(self) -> None:
        self.groups: dict[QueueId, QueueGroup] = {}
        self.held = Held()
        self._changed: set[QueueId] = set()
        self._gone: set[tuple[StateKind, bytes]] = set()
        """Rows of groups that were removed."""
        self._due: Due | None = None
        """None: not known."""

    def __bool__(self) -> bool:
        """Whether there is a group."""
        return bool(self.groups)

    # -- what a leader may ask -------------------------------------------------------------------------------------

    def due(self) -> Due:
        """When leases end, or records become ready or too late: a leader proposes an entry (a tick, if it has nothing
        else) once the log tick or the wall stamp that it would carry has come to that."""
        if self._due is None:
            groups = list(self.groups.values())
            ticks = [tick for group in groups if (tick := group.next_tick()) is not None]
            walls = [wall for group in groups if (wall := group.next_wall()) is not None]
            self._due = Due(min(ticks, default=None), min(walls, default=None))
        return self._due

    def depth(self, queue_id: QueueId) -> Depth:
        """The numbers of a group. Raises KeyError."""
        return check.depth(self.groups[queue_id])

    def pinned(self, below: Offset, most: int) -> list[Offset]:
        """Up to `most` records below an offset, ascending, that a trim there would take from a queue and that are not
        held yet: leased, delayed and parked ones. A leader proposes a Hold for each before the trim."""
        found: set[int] = set()
        for queue_id in sorted(self.groups):
            found.update(self._pinned(self.groups[queue_id], below, most))
        return [Offset(offset) for offset in sorted(found)[:most]]

    def needed_from(self) -> Offset | None:
        """What groups that delete on acknowledgement, or keep until all groups have acknowledged, need of the log
        begins here; all before it may be trimmed, once records that are pinned are held, and consumer groups agree
        where ``keeps_for_all``. None: no group says so."""
        groups = list(self.groups.values())
        kinds = {group.settings.retention for group in groups}
        if kinds <= {QueueRetention.KEEP}:
            return None
        all_groups = QueueRetention.ALL_GROUPS in kinds
        asked = [group for group in groups if all_groups or group.settings.retention is not QueueRetention.KEEP]
        return Offset(min(self._first_idle(group) for group in asked))

    def keeps_for_all(self) -> bool:
        """Whether ``needed_from`` asks every group of the topic: then consumer groups have to be asked as well."""
        return any(group.settings.retention is QueueRetention.ALL_GROUPS for group in self.groups.values())

    def objection(self, settles: Sequence[Settle], log_tick: int) -> str:
        """Why not all of these verdicts would count in an entry of `log_tick`, applied next; empty: they would."""
        said: set[tuple[QueueId, LeaseId, int]] = set()
        for op in settles:
            group = self.groups.get(op.group)
            lease = None if group is None else group.leases.get(op.lease)
            if lease is None or lease.secret != op.secret or lease.deadline <= log_tick:
                return f"lease {op.lease} of queue group {op.group} has run out, or is not known"
            for offset in op.offsets:
                position = lease.position(offset)
                token = (op.group, op.lease, offset)
                if position is None or not lease.outstanding >> position & 1 or token in said:
                    return f"offset {offset} is not (any more) with lease {op.lease} of queue group {op.group}"
                said.add(token)
        return ""

    def check(self, now: Now) -> None:
        """Raises AssertionError where a group is not as it must be. For tests and simulation."""
        for queue_id in sorted(self.groups):
            check.check(self.groups[queue_id], now)
        for offset in self.held.records:
            assert self._is_open(offset), f"offset {offset} is held for nobody"

    # -- entries ---------------------------------------------------------------------------------------------------

    def pass_time(self, now: Now) -> None:
        """An entry with these stamps is being applied. Costs next to nothing where nothing is due."""
        if self.groups and self.due().is_over(now):
            self._pass_time(now)
            self._free()

    def apply(self, command: QueueCommand, now: Now, bounds: Bounds) -> tuple[QueueAnswer, ...]:
        """One answer for each op, in order."""
        self._pass_time(now)
        answers = tuple([self._apply(op, now, bounds) for op in command.ops])
        self._due = None
        self._free()
        return answers

    def bound(self, wanted: Offset) -> Offset:
        """How far a trim to `wanted` may go: not past what a queue needs and does not hold."""
        limit: int = wanted
        needed = self.needed_from()
        if needed is not None:
            limit = min(limit, needed)
        pinned = self.pinned(Offset(limit), 1)
        return Offset(min([limit, *pinned]))

    def trimmed(self, log_start: Offset, now: Now) -> None:
        """Records below `log_start` are gone: those that nobody has had yet are skipped, unless they are held."""
        for queue_id in sorted(self.groups):
            group = self.groups[queue_id]
            if group.frontier < log_start:
                skipped = log_start - group.frontier
                group.closed += skipped
                group.counters[Counter.SKIPPED] += skipped
                group.frontier = log_start
                self._note(queue_id)
            lost = [offset for offset in _idle_below(group, log_start) if offset not in self.held]
            for offset in lost:
                group.close_idle(offset, Counter.SKIPPED, now)
                self._note(queue_id)
        self._free()

    # -- rows ------------------------------------------------------------------------------------------------------

    def take_rows(self) -> list[tuple[StateKind, bytes, bytes | None]]:
        """Rows that changed since the last call, by kind and key."""
        if not (self._changed or self._gone or self.held.changed):
            return []
        changed: dict[tuple[StateKind, bytes], bytes | None] = dict.fromkeys(self._gone)
        for queue_id in sorted(self._changed):
            for kind, key, value in rows.changed_rows(queue_id, self.groups[queue_id]):
                changed[kind, key] = value
        for offset in self.held.changed:
            changed[StateKind.QUEUE_HELD, rows.held_key(offset)] = self.held.records.get(offset)
        self._changed.clear()
        self._gone.clear()
        self.held.changed.clear()
        return [(kind, key, value) for (kind, key), value in sorted(changed.items(), key=lambda item: item[0])]

    def all_rows(self) -> list[tuple[StateKind, bytes, bytes]]:
        """Everything that there is, by kind and key."""
        found = [row for queue_id in sorted(self.groups) for row in rows.all_rows(queue_id, self.groups[queue_id])]
        found += [(StateKind.QUEUE_HELD, rows.held_key(at), record) for at, record in self.held.records.items()]
        return sorted(found, key=lambda row: row[:2])

    def restore(self, stored: Iterable[tuple[StateKind, bytes, bytes]], now: Now) -> None:
        """Take over rows of kinds that are queues'. Raises AssertionError, ValueError, DecodeError, struct.error."""
        others: list[tuple[StateKind, bytes, bytes]] = []
        for kind, key, value in sorted(stored, key=lambda row: row[:2]):
            if kind is StateKind.QUEUE_GROUP:
                (number,) = struct.unpack(">Q", key)
                self.groups[QueueId(number)] = rows.restore_group(value, self.held)
            elif kind is StateKind.QUEUE_HELD:
                (number,) = struct.unpack(">Q", key)
                self.held.put(number, value)
            else:
                others.append((kind, key, value))
        try:
            for kind, key, value in others:
                rows.restore_row(self.groups, kind, key, value)
        except OverflowError as error:
            raise ValueError(str(error)) from error
        for group in self.groups.values():
            group.reindex(now)
            check.check_numbers(group)
            rows.stored(group)
        self.held.changed.clear()

    # -- within ----------------------------------------------------------------------------------------------------

    def _note(self, queue_id: QueueId) -> None:
        self._changed.add(queue_id)
        self._due = None

    def _pass_time(self, now: Now) -> None:
        for queue_id in sorted(self.groups):
            group = self.groups[queue_id]
            before = len(group.leases)
            ops.expire(group, now)
            is_due = Due(group.next_tick(), group.next_wall()).is_over(now)
            if is_due:
                group.pass_time(now)
            if is_due or len(group.leases) != before:
                self._note(queue_id)

    def _apply(self, op: QueueOp, now: Now, bounds: Bounds) -> QueueAnswer:
        if isinstance(op, Hold):
            return self._hold(op, bounds)
        if isinstance(op, Configure) and op.group not in self.groups:
            start = max(bounds.log_start, min(op.start, bounds.committed))
            self.groups[op.group] = QueueGroup(op.settings, start, self.held)
            self._note(op.group)
            return DONE
        group = self.groups.get(op.group)
        if group is None:
            return UNKNOWN_GROUP
        if isinstance(op, Remove):
            self._remove(op.group, group)
            return DONE
        answer = self._apply_to(group, op, now, bounds)
        if not isinstance(answer, Refused):
            self._changed.add(op.group)
        return answer

    def _apply_to(self, group: QueueGroup, op: QueueOp, now: Now, bounds: Bounds) -> QueueAnswer:
        match op:
            case Grant():
                return ops.grant(group, op, now)
            case Settle():
                return ops.settle(group, op, now)
            case Introduce():
                return ops.introduce(group, op, bounds.committed, now)
            case Extend():
                return ops.extend(group, op, now)
            case Configure():
                return ops.configure(group, op, now)
            case Redrive():
                return ops.redrive(group, op, now)
            case Routed():
                return ops.routed(group, op)
            case Cancel():
                return ops.cancel(group, op, now)
            case Seek():
                return self._seek(op, group, bounds)
            case Pause() | Resume():
                group.is_paused = isinstance(op, Pause)
                if isinstance(op, Resume):
                    group.breaker = Breaker()
                return DONE
            case _:
                raise AssertionError(f"an op of no group: {op}")

    def _remove(self, queue_id: QueueId, group: QueueGroup) -> None:
        self._gone.update((kind, key) for kind, key, _ in rows.changed_rows(queue_id, group))
        self._gone.update((kind, key) for kind, key, _ in rows.all_rows(queue_id, group))
        self.held.closed.update(offset for offset in self.held.records if offset in group.open)
        self._changed.discard(queue_id)
        del self.groups[queue_id]

    def _seek(self, op: Seek, group: QueueGroup, bounds: Bounds) -> QueueAnswer:
        offset = Offset(max(bounds.log_start, min(op.offset, bounds.committed)))
        self._remove(op.group, group)
        anew = QueueGroup(group.settings, offset, self.held)
        anew.next_lease, anew.counters, anew.is_paused = group.next_lease, group.counters, group.is_paused
        anew.drain, anew.breaker, anew.dispatch.cursor = group.drain, group.breaker, group.dispatch.cursor
        anew.processed.total = group.processed.total
        self.groups[op.group] = anew
        return Sought(offset)

    def _hold(self, op: Hold, bounds: Bounds) -> QueueAnswer:
        if op.offset < bounds.log_start or op.offset in self.held or not self._is_open(op.offset):
            return Refused(Refusal.NOT_NEEDED)
        self.held.put(op.offset, op.record)
        return DONE

    def _free(self) -> None:
        """Let go of held records that no group has open any more."""
        for offset in sorted(self.held.closed):
            if offset in self.held and not self._is_open(offset):
                self.held.free(offset)
        self.held.closed.clear()

    def _is_open(self, offset: int) -> bool:
        return any(offset in group.open for group in self.groups.values())

    def _pinned(self, group: QueueGroup, below: int, most: int) -> Iterator[int]:
        for place in (group.delayed, group.parked.offsets):
            yield from _first_not_held(place, below, most, self.held)
        for _, lease in group.leases:
            yield from (at for at in lease.open_offsets() if at < below and at not in self.held)

    def _first_idle(self, group: QueueGroup) -> int:
        """The first record that is ready or waiting for its key, or else the first one not introduced yet."""
        lowest = [
            offset
            for place in (group.dispatch.ready, group.waiting)
            for offset in _first_not_held(place, group.frontier, 1, self.held)
        ]
        return min([group.frontier, *lowest])


def _first_not_held(place: Iterable[int], below: int, most: int, held: Held) -> Iterator[int]:
    count = 0
    for offset in place:
        if offset >= below or count == most:
            return
        if offset not in held:
            count += 1
            yield offset


def _idle_below(group: QueueGroup, offset: int) -> list[int]:
    """Ready and waiting records below an offset, ascending."""
    found: list[int] = []
    for place in (group.dispatch.ready, group.waiting):
        for first, after in place.runs():
            if first >= offset:
                break
            found += range(first, min(after, offset))
    return sorted(found)
