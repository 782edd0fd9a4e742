"""A queue group as anybody would write it who need not be quick: a dict of records, looked through each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from raftmq.partition.queues.commands import Status, Verdict
from raftmq.partition.queues.settings import AtEnd, Ordering, QueueSettings

OK, DUPLICATE, LATE = Status.OK, Status.DUPLICATE, Status.LEASE_EXPIRED


@dataclass
class Record:
    key: int = 0
    lane: int = 0
    priority: int = 0
    deliver_at: int = 0
    retry_at: int = 0
    expires: int = 0
    handouts: int = 0
    failures: int = 0
    redrives: int = 0
    place: str = "idle"
    """Or leased, parked, closed."""
    why: tuple[str, str] = ("", "")


@dataclass
class Lease:
    secret: bytes
    deadline: int
    said: dict[int, Verdict | None]


@dataclass
class Model:
    settings: QueueSettings
    start: int = 0
    frontier: int = 0
    records: dict[int, Record] = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)
    next_lease: int = 1
    lane: int = 0
    processed: list[bytes] = field(default_factory=list)
    is_paused: bool = False
    failed_in_a_row: int = 0
    shut_until: int = 0
    tick: int = 0
    wall: int = 0

    # -- questions ---------------------------------------------------------------------------------------------------

    def at(self, place: str) -> list[int]:
        return [offset for offset, record in sorted(self.records.items()) if record.place == place]

    def waits_for_key(self, offset: int) -> bool:
        key = self.records[offset].key
        if self.settings.ordering is Ordering.NONE or not key:
            return False
        same = [(at, record) for at, record in self.records.items() if record.key == key]
        return any(record.place == "leased" or (record.place == "idle" and at < offset) for at, record in same)

    def is_due(self, offset: int) -> bool:
        return self.records[offset].retry_at <= self.tick and self.records[offset].deliver_at <= self.wall

    @property
    def waiting(self) -> list[int]:
        return [offset for offset in self.at("idle") if self.waits_for_key(offset)]

    @property
    def delayed(self) -> list[int]:
        return [offset for offset in self.at("idle") if not self.waits_for_key(offset) and not self.is_due(offset)]

    @property
    def ready(self) -> list[int]:
        return [offset for offset in self.at("idle") if not self.waits_for_key(offset) and self.is_due(offset)]

    def next_one(self) -> int:
        ready = self.ready
        top = max(self.records[offset].priority for offset in ready)
        ready = [offset for offset in ready if self.records[offset].priority == top]
        if not self.settings.is_fair:
            return ready[0]
        lanes = {self.records[offset].lane for offset in ready}
        self.lane = min([lane for lane in lanes if lane > self.lane] or lanes)
        return next(offset for offset in ready if self.records[offset].lane == self.lane)

    def token(self, lease: int, offset: int) -> tuple[Lease, Verdict | None] | None:
        known = self.leases.get(lease)
        return None if known is None or offset not in known.said else (known, known.said[offset])

    # -- events ------------------------------------------------------------------------------------------------------

    def pass_time(self, tick: int, wall: int) -> None:
        self.tick, self.wall = tick, wall
        for number, lease in sorted(self.leases.items(), key=lambda item: (item[1].deadline, item[0])):
            if lease.deadline <= tick:
                del self.leases[number]
                for offset in sorted(offset for offset, said in lease.said.items() if said is None):
                    self.records[offset].handouts += 1
                    self.back(offset)
                    if self.settings.expiry_is_failure:
                        self.fail(offset, "LEASE_EXPIRED", "the lease of worker 'w' ran out", 0, 0)
        for offset in self.at("idle"):
            self.expire(offset)

    def back(self, offset: int) -> None:
        self.records[offset].place = "idle"

    def expire(self, offset: int) -> None:
        record = self.records[offset]
        if record.place == "idle" and 0 < record.expires <= self.wall:
            record.place = "closed"

    def fail(self, offset: int, reason: str, error: str, delay: int | None, salt: int) -> Status:
        record, settings = self.records[offset], self.settings
        record.failures += 1
        self.failed_in_a_row += 1
        is_too_much = settings.breaker_failures and self.failed_in_a_row >= settings.breaker_failures
        if is_too_much and self.tick >= self.shut_until:
            self.shut_until = self.tick + settings.breaker_pause_ms
        if settings.attempts_max and record.failures >= settings.attempts_max:
            if settings.at_end is AtEnd.DROP:
                record.place = "closed"
                return Status.DROPPED
            self.park(offset, reason, error)
            return Status.PARKED
        if delay is None:
            delay = settings.backoff.delay_ms(record.failures, salt)
        record.retry_at = self.tick + delay if delay else 0
        record.deliver_at = 0
        return OK

    def park(self, offset: int, reason: str, error: str) -> None:
        self.records[offset].place = "parked"
        self.records[offset].why = (reason, error)

    # -- ops ---------------------------------------------------------------------------------------------------------

    def grant(self, most: int, secret: bytes, lease_ms: int) -> tuple[int, list[tuple[int, int, int]]]:
        """(lease, (offset, attempt, failures) of each record)."""
        settings = self.settings
        if self.is_paused:
            return 0, []
        if settings.breaker_failures and self.shut_until:
            most = 0 if self.tick < self.shut_until or self.at("leased") else 1
        taken: list[tuple[int, int, int]] = []
        count = min(most, len(self.ready))
        for _ in range(count):
            offset = self.next_one()
            record = self.records[offset]
            taken.append((offset, record.handouts + 1, record.failures if record.handouts else 0))
            record.place = "leased"
        if not taken:
            return 0, []
        number, self.next_lease = self.next_lease, self.next_lease + 1
        deadline = self.tick + (lease_ms or settings.lease_ms)
        self.leases[number] = Lease(secret, deadline, {offset: None for offset, _, _ in taken})
        return number, taken

    def settle(
        self,
        lease: int,
        secret: bytes,
        verdict: Verdict,
        offsets: Sequence[int],
        delay: int | None,
        keys: Sequence[bytes],
    ) -> list[Status]:
        keys = keys or [b""] * len(offsets)
        return [self.say(lease, secret, verdict, at, delay, key) for at, key in zip(offsets, keys, strict=True)]

    def say(self, number: int, secret: bytes, verdict: Verdict, offset: int, delay: int | None, key: bytes) -> Status:
        found = self.token(number, offset)
        if found is None or found[0].secret != secret:
            return LATE
        lease, said = found
        if said is not None:
            return DUPLICATE if said is verdict else LATE
        lease.said[offset] = verdict
        record = self.records[offset]
        if verdict is Verdict.ACK:
            record.place = "closed"
            self.failed_in_a_row = self.shut_until = 0
            if key in self.processed:
                return Status.ALREADY_PROCESSED
            if key:
                self.processed = [*self.processed, key][-self.settings.processed_keys_max :]
            return OK
        record.handouts += 1
        self.back(offset)
        status = OK
        if verdict is Verdict.RETRY:
            status = self.fail(offset, "TOO_MANY_FAILURES", "e", delay, number << 32 ^ offset)
        elif verdict is Verdict.PARK:
            self.park(offset, "", "e")
        self.expire(offset)
        return status

    def redrive(self, offsets: Sequence[int]) -> list[int]:
        driven = []
        for offset in offsets:
            record = self.records.get(offset, Record(place="closed"))
            limit = self.settings.redrives_max
            if record.place == "parked" and not (limit and record.redrives >= limit):
                record.redrives += 1
                record.failures = record.retry_at = record.deliver_at = 0
                self.back(offset)
                driven.append(offset)
                self.expire(offset)
        return driven

    def cancel(self, offset: int) -> bool:
        record = self.records.get(offset, Record(place="closed"))
        if record.place != "idle" or self.is_due(offset):
            return False
        record.place = "closed"
        return True

    def trim(self, log_start: int, held: set[int]) -> None:
        for offset in range(self.frontier, log_start):
            self.records[offset] = Record(place="closed")
        self.frontier = max(self.frontier, log_start)
        for offset in [*self.ready, *self.waiting]:
            if offset < log_start and offset not in held:
                self.records[offset].place = "closed"

    def needs(self, held: set[int]) -> set[int]:
        """What a trim must leave in the log: leased, delayed and parked records that are not held."""
        return {*self.at("leased"), *self.delayed, *self.at("parked")} - held
