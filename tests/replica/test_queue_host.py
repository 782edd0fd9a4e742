"""What a node keeps for the queues of the partitions that it leads."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from raftmq.errors import NotLeader, OffsetOutOfRange, QueuePaused
from raftmq.ids import NodeId, Offset, QueueId
from raftmq.metadata.queue_groups import Ordering, QueueGroupRecord, QueueSettings
from raftmq.partition.queues.commands import Configure, Introduce, QueueCommand, QueueOp
from raftmq.partition.queues.group import Now, QueueGroup
from raftmq.partition.queues.held import Held
from raftmq.partition.queues.machine import Bounds, Queues
from raftmq.partition.queues.settings import QueueSettings as Rules
from raftmq.partition.queues.tally import Counter
from raftmq.replica.queues import line as line_module
from raftmq.replica.queues.calls import Wish
from raftmq.replica.queues.host import QueueHost
from raftmq.replica.queues.line import AHEAD, INTRODUCE_MAX, NOTHING, Line, Sharing
from raftmq.replica.queues.records import DecodedBatch
from raftmq.v1 import types_pb2
from tests.replica.world import GROUP, World


async def test_nothing_is_kept_of_a_partition_that_is_led_here_no_more() -> None:
    world = World()
    world.create_group()
    leader = world.elect()
    log: Any = SimpleNamespace(replicas=world.nodes[NodeId(leader)].replicas)
    host = QueueHost(log, world.time, bytes, lambda _: Sharing(1, True))
    desk = host.desk_of(GROUP)
    host.tidy()
    assert host.desks == {GROUP: desk}
    others = [node for node in world.nodes if node != leader]
    world.cut = {(NodeId(leader), node) for node in others} | {(node, NodeId(leader)) for node in others}
    assert world.run(20_000, lambda: not world.group(leader).is_leader)
    host.tidy()
    assert desk.is_closed
    assert host.desks == {}


async def test_who_needs_something_proposed_while_leadership_is_handed_over_is_told_so_at_once() -> None:
    """The desk once asked again in the next pass of the loop, and in each one after it."""
    world = World()
    world.create_group()
    leader = world.elect()
    log: Any = SimpleNamespace(replicas=world.nodes[NodeId(leader)].replicas)
    desk = QueueHost(log, world.time, bytes, lambda _: Sharing(1, True)).desk_of(GROUP)
    node = world.group(leader).node
    node.transfer_leadership(
        next(one for one in node.membership.voters_in_order if one.node != leader), world.time.tick()
    )
    line = desk.line(QueueGroupRecord(7, 1, "workers", QueueSettings()))  # the partition has to be told of it first
    waiter = line.wait(Wish("a", 1, 1_000, 1_000))
    for _ in range(10):
        await asyncio.sleep(0)
    assert waiter.answer.done()
    with pytest.raises(NotLeader):
        waiter.answer.result()


class _Desk:
    """A desk whose records are one long batch, none of them to be delivered before long."""

    def __init__(self, count: int) -> None:
        self.queues = Queues()
        self.machine = SimpleNamespace(queues=self.queues)
        self.next_offset = Offset(count)
        self.shared = Sharing(1, True)
        self.submitted: list[tuple[QueueOp, Any]] = []
        self.works: list[Any] = []
        record = types_pb2.Record(key=b"k", deliver_at_ms=10**12)
        batch = DecodedBatch(Offset(0), [record] * count, 1, count)
        self.records: Any = SimpleNamespace(mean_bytes=1, at=self._at)
        self._batch = batch

    async def _at(self, _offset: Offset) -> DecodedBatch:
        return self._batch

    def stamp(self) -> tuple[int, int]:
        return 1, 1

    def sharing(self) -> Sharing:
        return self.shared

    def look(self) -> None:
        """The test says when."""

    def run(self, work: Any) -> None:
        self.works.append(work)

    def submit(self, op: QueueOp, tell: Any) -> None:
        self.submitted.append((op, tell))

    async def apply(self) -> list[QueueOp]:
        """What was asked for so far is committed."""
        works, self.works = self.works, []
        for work in works:
            await work
        submitted, self.submitted = self.submitted, []
        command = QueueCommand(tuple(op for op, _ in submitted))
        answers = self.queues.apply(command, Now(1, 1), Bounds(Offset(0), self.next_offset))
        for (_, tell), answer in zip(submitted, answers, strict=True):
            tell(answer)
        return [op for op, _ in submitted]


def test_a_breaker_that_opens_and_closes_is_a_line_in_the_leaders_log() -> None:
    desk: Any = _Desk(0)
    desk.term = 3
    group = desk.queues.groups[QueueId(7)] = QueueGroup(Rules(breaker_failures=2), 0, Held())
    line = Line(desk, QueueGroupRecord(7, 1, "workers", QueueSettings()))

    def said(until: int, opened: int) -> list[str]:
        group.breaker.until, group.counters[Counter.BREAKER_OPENED] = until, opened
        with capture_logs() as logs:
            line.tell_of_breaker(GROUP)
            line.tell_of_breaker(GROUP)
        assert all((one["group"], one["term"], one["queue"]) == (GROUP, 3, "workers") for one in logs)
        return [one["event"].removeprefix("circuit breaker ") for one in logs]

    assert said(0, 5) == [], "of earlier leaderships"
    assert said(500, 6) == ["open"]
    assert said(900, 7) == ["open"], "what it let try failed"
    assert said(0, 7) == ["closed"]
    assert said(0, 8) == ["open", "closed"], "both since the last look"
    group.settings = Rules(breaker_failures=0)
    assert said(900, 8) == [], "a breaker that was taken from the group"
    line = Line(desk, QueueGroupRecord(7, 1, "workers", QueueSettings(breaker_failures=2)))
    group.settings = Rules(breaker_failures=2)
    assert said(900, 8) == ["open"], "as this leadership found it"


async def test_who_waits_no_longer_need_not_see_all_of_a_long_log_that_is_for_later() -> None:
    desk: Any = _Desk(3 * INTRODUCE_MAX)
    line = Line(desk, QueueGroupRecord(7, 1, "workers", QueueSettings()))
    waiter = line.wait(Wish("a", 1, 1_000, 1_000))
    line.late(waiter)
    for _ in range(2):  # the rules; some of the records
        line.serve()
        await desk.apply()
        assert not waiter.answer.done()
    line.serve()
    assert waiter.answer.result() == (NOTHING, b"")
    assert desk.works, "the next introduction has begun already"
    await desk.apply()


async def test_a_batch_of_very_many_records_is_introduced_in_parts() -> None:
    """All of it in one entry once stopped every replica for seconds, or was too large for any entry."""
    desk: Any = _Desk(2 * INTRODUCE_MAX + 1)
    line = Line(desk, QueueGroupRecord(7, 1, "workers", QueueSettings(ordering=Ordering.KEY)))
    line.wait(Wish("a", 1, 1_000, 1_000))
    line.serve()
    await desk.apply()
    parts: list[tuple[int, int, int, int]] = []
    for _ in range(3):
        line.serve()
        introduced = [op for op in await desk.apply() if isinstance(op, Introduce)]
        parts += [(op.first, op.next, len(op.keys), len(op.specials)) for op in introduced]
    most = INTRODUCE_MAX
    assert parts == [
        (0, most, most, most), (most, 2 * most, most, most), (2 * most, 2 * most + 1, 1, 1)
    ]  # fmt: skip


async def test_nobody_is_told_of_a_record_that_was_trimmed_while_it_was_to_be_introduced() -> None:
    desk: Any = _Desk(100)
    line = Line(desk, QueueGroupRecord(7, 1, "workers", QueueSettings()))
    waiter = line.wait(Wish("a", 1, 1_000, 1_000))
    line.serve()
    await desk.apply()

    async def at(offset: Offset) -> DecodedBatch:
        desk.queues.trimmed(Offset(50), Now(1, 1))
        raise OffsetOutOfRange(f"offset {offset} is trimmed", field="offset")

    desk.records.at, real = at, desk.records.at
    line.serve()
    await desk.apply()
    assert not waiter.answer.done()
    desk.records.at = real
    line.serve()
    (introduced,) = await desk.apply()
    assert (introduced.first, introduced.next) == (50, 100)
    desk.records.at = at
    desk.next_offset = Offset(200)
    line.serve()
    await desk.apply()
    assert isinstance(waiter.answer.exception(), OffsetOutOfRange), "nothing has changed: it is so"


async def test_a_group_that_is_paused_gives_nothing_to_those_who_wait_already() -> None:
    desk: Any = _Desk(0)
    line = Line(desk, QueueGroupRecord(7, 1, "workers", QueueSettings()))
    waiter = line.wait(Wish("a", 1, 1_000, 1_000))
    line.told(QueueGroupRecord(7, 1, "workers", QueueSettings(paused=True), version=2))
    with pytest.raises(QueuePaused):
        waiter.answer.result()


async def test_partitions_are_told_of_their_share_of_a_drain_rate() -> None:
    """And again when the topic has more of them, or when the last node understands shares."""
    desk: Any = _Desk(1)
    line = Line(desk, QueueGroupRecord(7, 1, "workers", QueueSettings(drain_per_s=10)))
    told: list[tuple[int, int]] = []
    for sharing in (Sharing(3, False), Sharing(3, True), Sharing(3, True), Sharing(2, True), Sharing(4, True)):
        desk.shared = sharing
        line.refresh()
        rules = [op.settings for op in await desk.apply() if isinstance(op, Configure)]
        told += [(one.drain_per_s, one.drain_parts) for one in rules]
    assert told == [(4, 1), (10, 3), (10, 4)]


async def _introduced(settings: QueueSettings) -> int:
    """How far a group looks ahead in a long log while somebody waits, and nothing is handed out."""
    desk: Any = _Ready()
    line = Line(desk, QueueGroupRecord(7, 1, "workers", settings))
    line.wait(Wish("a", 1, 1_000, 1_000))
    line.serve()
    await desk.apply()  # the rules
    (group,) = desk.queues.groups.values()
    group.is_paused = True
    last = -1
    while group.frontier != last:
        last = group.frontier
        line.serve()
        await desk.apply()
    return last


async def test_turns_hold_among_more_records_than_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant with a backlog, and another behind it."""
    monkeypatch.setattr(line_module, "AHEAD", 100)
    monkeypatch.setattr(line_module, "AHEAD_IN_TURNS", 5_000)
    plain, fair = await _introduced(QueueSettings()), await _introduced(QueueSettings(fair_by="key"))
    assert 100 <= plain < 200
    assert 5_000 <= fair <= 5_000 + _Ready.BATCH


async def test_what_waits_for_others_of_its_key_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with a long log, whose first record is not done, once took all of it into memory."""
    monkeypatch.setattr(line_module, "WAITING_MAX", 1_000)
    assert 1_000 <= await _introduced(QueueSettings(ordering=Ordering.KEY)) < 1_000 + AHEAD + _Ready.BATCH


class _Ready(_Desk):
    """A long log of batches; all of it has one key."""

    BATCH = 50

    def __init__(self) -> None:
        super().__init__(20_000)

    async def _at(self, offset: Offset) -> DecodedBatch:
        first = offset - offset % self.BATCH
        return DecodedBatch(Offset(first), [types_pb2.Record(key=b"k")] * self.BATCH, 1, self.BATCH)
