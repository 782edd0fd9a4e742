"""The whole group against a naive model of it, with restarts from rows at any point."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
    Hold,
    Introduce,
    Introduced,
    Pause,
    Redrive,
    Redriven,
    Refused,
    Resume,
    Seek,
    Settle,
    Settled,
    Sought,
    Special,
    Verdict,
)
from raftmq.partition.queues.settings import AtEnd, Backoff, Ordering, QueueRetention, QueueSettings
from tests.partition.queues.build import GROUP, SECRET, Partition
from tests.partition.queues.model import Lease, Model, Record

SETTINGS = st.builds(
    QueueSettings,
    ordering=st.sampled_from(Ordering),
    lease_ms=st.sampled_from([20, 60]),
    attempts_max=st.sampled_from([0, 2, 3]),
    at_end=st.sampled_from(AtEnd),
    backoff=st.builds(Backoff, st.integers(0, 30), st.sampled_from([100, 200]), st.just(50), st.sampled_from([0, 50])),
    expiry_is_failure=st.booleans(),
    is_fair=st.booleans(),
    processed_keys_max=st.just(3),
    breaker_failures=st.sampled_from([0, 0, 3]),
    breaker_pause_ms=st.just(25),
    redrives_max=st.sampled_from([0, 2]),
    retention=st.sampled_from([QueueRetention.KEEP, QueueRetention.KEEP, QueueRetention.DELETE_ON_ACK]),
)
ELAPSED = st.integers(0, 12)
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 3),  # key
        st.integers(0, 3),  # lane
        st.sampled_from([0, 0, 0, 5, 9]),  # priority
        st.sampled_from([0, 0, 0, 10, 30]),  # deliver at, from now
        st.sampled_from([0, 0, 0, 15, 45]),  # expires at, from now
    ),
    min_size=1,
    max_size=8,
)
NOT_SO_FAR = 60


class QueueAgainstModel(RuleBasedStateMachine):
    partition: Partition
    model: Model
    held: set[int]

    @initialize(chosen=SETTINGS)
    def begin(self, chosen: QueueSettings) -> None:
        self.partition, self.model, self.held = Partition(chosen), Model(chosen), set()
        self._pass(0)

    def _pass(self, elapsed: int) -> None:
        log = self.partition.log
        self.model.pass_time(log.tick + elapsed, log.wall + elapsed)

    def _offset(self, data: st.DataObject) -> int:
        return data.draw(st.integers(self.model.start, max(self.model.start, self.model.frontier)))

    @precondition(lambda self: self.model.frontier < NOT_SO_FAR)
    @rule(known=RECORDS, plain=st.booleans(), elapsed=ELAPSED)
    def introduce(self, known: list[tuple[int, int, int, int, int]], plain: bool, elapsed: int) -> None:
        partition, model = self.partition, self.model
        if plain:
            known = [(0, 0, 0, 0, 0)] * len(known)
        if partition.machine.next_offset < model.frontier + len(known):
            partition.publish(model.frontier + len(known) - partition.machine.next_offset)
        self._pass(elapsed)
        first, wall = model.frontier, model.wall
        model.frontier += len(known)
        specials: list[Special] = []
        for offset, (key, lane, priority, due, expires) in enumerate(known, first):
            special = Special(Offset(offset), priority, due and wall + due, expires and wall + expires - 20)
            if priority or due or expires:
                specials.append(special)
            model.records[offset] = _record(key, lane, special)
        for offset in range(first, model.frontier):
            model.expire(offset)
        keys = [] if plain else [key for key, *_ in known]
        lanes = [] if plain else [lane for _, lane, *_ in known]
        op = Introduce(GROUP, Offset(first), Offset(model.frontier), tuple(keys), tuple(lanes), tuple(specials))
        assert partition.ask(op, elapsed) == Introduced(Offset(model.frontier))

    @rule(most=st.integers(1, 9), lease_ms=st.sampled_from([0, 10, 35]), elapsed=ELAPSED)
    def grant(self, most: int, lease_ms: int, elapsed: int) -> None:
        self._pass(elapsed)
        number, taken = self.model.grant(most, SECRET, lease_ms)
        granted = self.partition.ask(Grant(GROUP, "w", most, SECRET, lease_ms), elapsed)
        assert isinstance(granted, Granted)
        assert granted.lease == number
        assert [(at, granted.attempt(at), granted.failures(at)) for at in granted.offsets] == taken

    @rule(data=st.data(), verdict=st.sampled_from([*Verdict, Verdict.ACK]), elapsed=ELAPSED)
    def settle(self, data: st.DataObject, verdict: Verdict, elapsed: int) -> None:
        number = data.draw(st.sampled_from([*sorted(self.model.leases), self.model.next_lease]), label="lease")
        known = self.model.leases.get(number, Lease(b"", 0, {0: None}))
        offsets = sorted(known.said)
        if data.draw(st.booleans(), label="some"):
            offsets = data.draw(st.lists(st.sampled_from([*offsets, 0]), max_size=4), label="offsets")
        secret = data.draw(st.sampled_from([SECRET, SECRET, SECRET, bytes(16)]), label="secret")
        delay = data.draw(st.sampled_from([None, 0, 20]), label="delay")
        keys: list[bytes] = []
        if verdict is Verdict.ACK and data.draw(st.booleans(), label="keyed"):
            keys = [bytes([65 + offset % 5]) for offset in offsets]
        self._pass(elapsed)
        expected = self.model.settle(number, secret, verdict, offsets, delay, keys)
        op = Settle(GROUP, LeaseId(number), secret, verdict, tuple(offsets), delay, "", "e", tuple(keys))
        assert self.partition.ask(op, elapsed) == Settled(tuple(expected))

    @rule(data=st.data(), lease_ms=st.integers(0, 40), elapsed=ELAPSED)
    def extend(self, data: st.DataObject, lease_ms: int, elapsed: int) -> None:
        number = data.draw(st.sampled_from([*sorted(self.model.leases), self.model.next_lease]))
        self._pass(elapsed)
        lease = self.model.leases.get(number)
        is_current = lease is not None and None in lease.said.values()
        answer = self.partition.ask(Extend(GROUP, LeaseId(number), SECRET, lease_ms), elapsed)
        assert isinstance(answer, Extended) == is_current
        if lease is not None and is_current:
            lease.deadline = max(lease.deadline, self.model.tick + lease_ms)
            assert answer == Extended(lease.deadline)

    @rule(data=st.data(), elapsed=ELAPSED)
    def redrive(self, data: st.DataObject, elapsed: int) -> None:
        offsets = tuple(data.draw(st.lists(st.sampled_from([*self.model.at("parked"), 0]), max_size=4)))
        self._pass(elapsed)
        answer = self.partition.ask(Redrive(GROUP, offsets), elapsed)
        assert isinstance(answer, Redriven)
        assert list(answer.offsets) == self.model.redrive(offsets)
        assert len(answer.offsets) + len(answer.not_parked) + len(answer.looping) == len(offsets)

    @rule(data=st.data(), elapsed=ELAPSED)
    def cancel(self, data: st.DataObject, elapsed: int) -> None:
        offset = data.draw(st.sampled_from([*self.model.delayed, self._offset(data)]))
        self._pass(elapsed)
        answer = self.partition.ask(Cancel(GROUP, Offset(offset)), elapsed)
        assert isinstance(answer, Done) == self.model.cancel(offset)

    @rule(elapsed=st.integers(0, 70))
    def wait(self, elapsed: int) -> None:
        self._pass(elapsed)
        self.partition.wait(elapsed)

    @rule(pause=st.booleans())
    def pause(self, pause: bool) -> None:
        self._pass(0)
        assert self.partition.ask(Pause(GROUP) if pause else Resume(GROUP)) == DONE
        self.model.is_paused = pause
        if not pause:
            self.model.failed_in_a_row = self.model.shut_until = 0

    @rule(chosen=SETTINGS)
    def configure(self, chosen: QueueSettings) -> None:
        self._pass(0)
        self.model.settings = replace(chosen, version=self.model.settings.version + 1)
        self.model.processed = self.model.processed[-chosen.processed_keys_max :]
        assert self.partition.ask(Configure(GROUP, self.model.settings, Offset(0))) == DONE

    @rule(data=st.data())
    def seek(self, data: st.DataObject) -> None:
        wanted = data.draw(st.integers(0, self.partition.machine.next_offset))
        self._pass(0)
        answer = self.partition.ask(Seek(GROUP, Offset(wanted)))
        at = max(wanted, self.partition.machine.log_start_offset)
        assert answer == Sought(Offset(at))
        model = self.model
        model.start = model.frontier = at
        model.records, model.leases, model.processed = {}, {}, []

    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        offset = self._offset(data)
        self._pass(0)
        answer = self.partition.ask(Hold(Offset(offset), b"r"))
        is_open = offset in self.model.records and self.model.records[offset].place != "closed"
        start = self.partition.machine.log_start_offset
        assert isinstance(answer, Refused) == (not is_open or offset < start or offset in self.held)
        if isinstance(answer, Done):
            self.held.add(offset)

    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        machine, model = self.partition.machine, self.model
        wanted = data.draw(st.integers(0, machine.next_offset))
        self._pass(0)
        limits = [*model.needs(self.held)]
        if model.settings.retention is QueueRetention.DELETE_ON_ACK:
            limits += [model.frontier, *(set(model.at("idle")) - set(model.delayed) - self.held)]
        expected = max(machine.log_start_offset, min([wanted, *limits]))
        assert self.partition.trim(wanted) == expected
        model.trim(expected, self.held)

    @rule()
    def flush(self) -> None:
        self.partition.flush()

    @rule()
    def restart(self) -> None:
        self.partition.restart()

    @invariant()
    def same_places(self) -> None:
        if not hasattr(self, "model"):
            return
        group, model = self.partition.group, self.model
        self.held = {offset for offset in self.held if offset in group.open}
        assert list(group.dispatch.ready) == model.ready
        assert list(group.waiting) == model.waiting
        assert list(group.delayed) == model.delayed
        assert list(group.parked.offsets) == model.at("parked")
        assert group.leases.outstanding == len(model.at("leased"))
        assert (group.start, group.frontier, group.closed) == (model.start, model.frontier, len(model.at("closed")))
        assert [key for _, key in group.processed.items()] == model.processed
        assert set(self.partition.machine.queues.held.records) == self.held
        for offset in model.at("parked"):
            parked = group.parked.get(offset)
            assert parked is not None
            assert (parked.reason, parked.error) == model.records[offset].why


def _record(key: int, lane: int, special: Special) -> Record:
    return Record(key, lane, special.priority, special.deliver_at_ms, 0, special.expires_at_ms)


TestQueueAgainstModel = QueueAgainstModel.TestCase
TestQueueAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
