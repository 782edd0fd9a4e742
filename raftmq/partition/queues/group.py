"""One queue group in one partition: where each of its records is, and how it gets from there to the next place.

    introduced ──> ready ──grant──> leased ──ack──> closed
                   ^   ^              |  |
       due ── delayed  └──release──── ┤  └──park, or too many failures──> parked ──redrive──> ready
                ^                     |
                └────────retry────────┘

Every offset in [start, frontier) is closed or *open*, and each open one is in exactly one place: ready, waiting (behind
its key, ``lines``), delayed, leased or parked. What is stored is which are open, the leases, the parked ones, and
what is known of single records; the other places follow from those and from the time (``reindex``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raftmq.ids import LeaseId
from raftmq.partition.queues.dispatch import Dispatch
from raftmq.partition.queues.held import Held
from raftmq.partition.queues.leases import Leases
from raftmq.partition.queues.lines import Lines
from raftmq.partition.queues.offset_set import OffsetSet, StoredOffsetSet
from raftmq.partition.queues.parked import Parked, ParkedRecord
from raftmq.partition.queues.processed import ProcessedKeys
from raftmq.partition.queues.records import SHIFT, WIDTH, Records
from raftmq.partition.queues.schedule import Schedule
from raftmq.partition.queues.settings import Ordering, QueueSettings
from raftmq.partition.queues.tally import Counter
from raftmq.partition.queues.throttle import Breaker, Drain, Rate


class Now(NamedTuple):
    """The stamps of the entry that is being applied."""

    log_tick: int
    wall_ms: int


class QueueGroup:
    """Places and moves. What the ops make of them is in ``ops``; what is stored, in ``rows``."""

    def __init__(self, settings: QueueSettings, start: int, held: Held) -> None:
        self.settings = settings
        self.start = start
        """Where the group's state began."""
        self.frontier = start
        """The next offset to be introduced."""
        self.closed = 0
        """Offsets in [start, frontier) that are final."""
        self.next_lease = LeaseId(1)
        self.is_paused = False
        self.counters = [0] * len(Counter)
        self.drain = Drain()
        self.breaker = Breaker()
        self.open = StoredOffsetSet()
        self.records = Records()
        self.leases = Leases()
        self.parked = Parked()
        self.processed = ProcessedKeys()
        self.held = held
        self._clear(lane_cursor=0)

    def _clear(self, lane_cursor: int) -> None:
        """Empty what follows from the rest."""
        self.dispatch = Dispatch(self.settings.is_fair, lane_cursor)
        self.waiting = OffsetSet()
        self.delayed = OffsetSet()
        self.lines = Lines()
        self.due_ticks = Schedule(lambda offset, at: offset in self.delayed and self.records.due[offset] == 2 * at + 1)
        self.due_walls = Schedule(lambda offset, at: offset in self.delayed and self.records.due[offset] == 2 * at)
        self.expiries = Schedule(lambda offset, at: offset in self.open and self.records.expires[offset] == at)

    # -- what can be seen ------------------------------------------------------------------------------------------

    @property
    def floor(self) -> int:
        """Everything below is final."""
        lowest = self.open.lowest()
        return self.frontier if lowest is None else lowest

    @property
    def ready(self) -> int:
        """How many records could be handed out, were it not for pause, drain rate and breaker."""
        return len(self.dispatch.ready)

    @property
    def is_ordered(self) -> bool:
        return self.settings.ordering is Ordering.KEY

    @property
    def rate(self) -> Rate:
        """Where there is a limit."""
        return Rate(self.settings.drain_per_s, self.settings.drain_parts)

    @property
    def breaker_until(self) -> int:
        """The log tick until which the breaker is open, or was, with no success since; 0: nothing is kept back."""
        return self.breaker.until if self.settings.breaker_failures else 0

    def is_idle(self, offset: int) -> bool:
        """Open, with nobody, and not parked."""
        return offset in self.dispatch.ready or offset in self.waiting or offset in self.delayed

    def grantable(self, log_tick: int) -> int:
        """How many records a grant at `log_tick` would get at most."""
        settings = self.settings
        count = 0 if self.is_paused else self.ready
        if count and settings.drain_per_s:
            count = min(count, self.drain.allowed(self.rate, log_tick))
        if count and settings.breaker_failures:
            count = self.breaker.allowed(log_tick, self.leases.outstanding, count)
        return count

    def grantable_from(self, log_tick: int) -> int | None:
        """The first log tick, not before this one, at which a grant gets a record of those that are ready now; None:
        no passing of time alone brings that about."""
        settings = self.settings
        if self.is_paused or not self.ready:
            return None
        at = log_tick
        if settings.drain_per_s:
            at = max(at, self.drain.next_tick(self.rate))
        if settings.breaker_failures and self.breaker.until:
            if self.leases.outstanding and log_tick >= self.breaker.until:
                return None
            at = max(at, self.breaker.until)
        return at

    def next_tick(self) -> int | None:
        """The first log tick at which something changes here by itself."""
        return _first(self.leases.next_deadline(), self.due_ticks.next())

    def next_wall(self) -> int | None:
        """The same by wall stamp."""
        return _first(self.due_walls.next(), self.expiries.next())

    # -- moves -----------------------------------------------------------------------------------------------------

    def admit(self, offset: int, now: Now) -> None:
        """An open record that was in no place, or was parked, goes where it belongs."""
        key = self._key(offset)
        if key:
            head = self.lines.head(key)
            self.lines.add(key, offset)
            if head is not None and offset < head and self._withdraw(head):
                self.waiting.add(head)
        self._settle_down(offset, key, now)

    def give_back(self, offset: int, now: Now) -> None:
        """A record that was leased, and is so no longer, goes where it belongs."""
        self._settle_down(offset, self._key(offset), now)

    def lease(self, offset: int) -> None:
        """A record that was ready is handed out."""
        key = self._key(offset)
        if key:
            self.lines.lease(key)

    def unlease(self, offset: int) -> None:
        """Nobody has it any more."""
        key = self._key(offset)
        if key:
            self.lines.give_back(key)

    def count_handout(self, offset: int) -> None:
        """A hand-out has ended without an acknowledgement."""
        self.records.set(self.records.handouts, offset, self.records.handouts[offset] + 1)

    def park(self, offset: int, reason: str, error: str, now: Now) -> None:
        """A record that is in no other place (any more) is kept aside."""
        self.parked.add(offset, ParkedRecord(reason, error, now.log_tick, now.wall_ms))  # type: ignore[arg-type]
        self.counters[Counter.PARKED] += 1
        key = self._key(offset)
        if key:
            self.lines.remove(key, offset)
            self._promote(key, now)

    def close(self, offset: int, how: Counter, now: Now) -> None:
        """A record that is in no place (any more) is final."""
        key = self._key(offset)
        self._close(offset, how, key)
        if key:
            self._promote(key, now)

    def close_idle(self, offset: int, how: Counter, now: Now) -> bool:
        """A record is final if it is idle. Returns whether it was."""
        if not self.is_idle(offset):
            return False
        self._withdraw(offset)
        self.close(offset, how, now)
        return True

    def close_parked(self, offset: int, how: Counter) -> None:
        """A parked record is final. It stands in no line."""
        self.parked.remove(offset)
        self._close(offset, how, 0)

    def close_many(self, offsets: Sequence[int], how: Counter) -> None:
        """Records that are in no place are final: `offsets`, ascending, of a group without order."""
        assert not self.is_ordered
        closed = self.open.discard_sorted(offsets)
        assert closed == len(offsets), "only open records are closed"
        self.closed += closed
        self.counters[how] += closed
        if self.held.records:
            self.held.closed.update(offset for offset in offsets if offset in self.held)
        if self.records:
            for page in sorted({offset >> SHIFT for offset in offsets}):
                self._drop_page(page)

    def pass_time(self, now: Now) -> None:
        """What is due by itself happens: leases end (their records: see ``ops.expire``), records become ready, others
        are too late."""
        for offset in iter(lambda: self.due_ticks.pop(now.log_tick), None):
            self._ready(offset)
        for offset in iter(lambda: self.due_walls.pop(now.wall_ms), None):
            self._ready(offset)
        for offset in iter(lambda: self.expiries.pop(now.wall_ms), None):
            self.close_idle(offset, Counter.EXPIRED, now)  # another one is seen to when it comes back

    def reindex(self, now: Now) -> None:
        """Find all places anew from what is stored."""
        self._clear(self.dispatch.cursor)
        leased = OffsetSet()
        for _, lease in self.leases:
            for offset in lease.open_offsets():
                leased.add(offset)
                if key := self._key(offset):
                    self.lines.lease(key)
        plain = not self.records and not self.settings.is_fair
        parked = self.parked.offsets
        idle = OffsetSet()
        for page in self.open.pages():
            idle.set_page(page, self.open.page(page) & ~leased.page(page) & ~parked.page(page))
        if plain:
            self.dispatch.ready = idle
            return
        for offset in leased:
            if key := self._key(offset):
                self.lines.add(key, offset)
        keyed: list[int] = []
        for offset in idle:
            if key := self._key(offset):
                self.lines.add(key, offset)
                self.waiting.add(offset)
                keyed.append(key)
            else:
                self._offer(offset, now)
        for offset in self.open if self.records.expires.pages else ():
            if self.records.expires[offset] > now.wall_ms:
                self.expiries.add(self.records.expires[offset], offset)
        for key in keyed:
            self._promote(key, now)

    # -- within ----------------------------------------------------------------------------------------------------

    def _key(self, offset: int) -> int:
        return self.records.keys[offset] if self.is_ordered else 0

    def _settle_down(self, offset: int, key: int, now: Now) -> None:
        expires = self.records.expires[offset]
        if expires and expires <= now.wall_ms:
            self._close(offset, Counter.EXPIRED, key)
        elif key:
            self.waiting.add(offset)
        else:
            self._offer(offset, now)
        if key:
            self._promote(key, now)

    def _promote(self, key: int, now: Now) -> None:
        """Let the first one in a line go, if it may."""
        if key not in self.lines.leased:
            head = self.lines.head(key)
            if head is not None and self.waiting.discard(head):
                self._offer(head, now)

    def _offer(self, offset: int, now: Now) -> None:
        """Nothing but the time can keep it back."""
        due = self.records.due[offset]
        if due & 1 and due >> 1 > now.log_tick:
            self.delayed.add(offset)
            self.due_ticks.add(due >> 1, offset)
        elif not due & 1 and due >> 1 > now.wall_ms:
            self.delayed.add(offset)
            self.due_walls.add(due >> 1, offset)
        else:
            self.dispatch.add(offset, self.records.priorities[offset], self.records.lanes[offset])

    def _ready(self, offset: int) -> None:
        self.delayed.discard(offset)
        self.dispatch.add(offset, self.records.priorities[offset], self.records.lanes[offset])

    def _withdraw(self, offset: int) -> bool:
        """Take it out of the idle place where it is. Returns whether that was its turn: ready, or delayed."""
        self.waiting.discard(offset)
        return self.dispatch.ready.discard(offset) or self.delayed.discard(offset)

    def _close(self, offset: int, how: Counter, key: int) -> None:
        self.open.discard(offset)
        self.closed += 1
        self.counters[how] += 1
        if key:
            self.lines.remove(key, offset)
        if offset in self.held:
            self.held.closed.add(offset)
        self._drop_page(offset >> SHIFT)

    def _drop_page(self, page: int) -> None:
        if not self.open.part(page << SHIFT, WIDTH):
            self.records.drop(page)


def _first(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
