"""A dead letter that is parked once more while the copy of the first parking is on its way; on simulated nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from raftmq import assembly
from raftmq.broker.queues.dead_letters import DeadLetters
from raftmq.ids import Offset, QueueId
from raftmq.metadata.features import CLUSTER_VERSION
from raftmq.metadata.queue_groups import QueueSettings, SetQueueGroup
from raftmq.partition.queues import commands
from raftmq.replica.queues.calls import Claim, Ruling, Verdict, Wish
from raftmq.v1 import broker_pb2
from tests.controller.nodes import formed
from tests.replica.test_queue_holding import GROUP, Queue

Meanwhile = Callable[[], Coroutine[Any, Any, None]]


class Copied(Queue):
    """Dead letters are copied when the test says so; the topic that they go to takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[broker_pb2.ProduceRequest] = []
        self.meanwhile: Meanwhile | None = None
        """Happens once, while a copy is on its way."""

    def begin_to_copy(self, *, remove: bool) -> None:
        self.form(retention_bytes=0)
        self.create_topic("letters")
        leader = self.leader()
        settings = QueueSettings(dead_letter_topic="letters", dead_letter_remove=remove)
        self.do(leader, self.at(leader).queue_groups.set(SetQueueGroup("orders", "workers", settings), 10_000))
        self.until(lambda: self.known.settings == settings)

    async def target(self, _name: str, request: Any, _context: object) -> Any:
        self.requests.append(request)

    async def answer(self, _name: str, _request: Any, _target: object, _context: object) -> Any:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()

    def copy(self) -> None:
        async def look() -> None:
            async with asyncio.TaskGroup() as tasks:
                DeadLetters(self.assembly(self.lead)._view, self).look(tasks)

        self.do(self.lead, look())

    async def park_again(self) -> None:
        queues, group = self.assembly(self.lead).queues, self.known
        await queues.ask(GROUP, group, commands.Redrive(QueueId(group.id), [0]), 5_000)
        received = await queues.receive(GROUP, group, Wish("w", 10, 1 << 20, 30_000), 5_000)
        claims = [Claim(one.lease, one.offset, received.secret) for one in received.deliveries]
        assert [claim.offset for claim in claims] == [0]
        await queues.settle(GROUP, group, claims, Ruling(Verdict.PARK, reason="again"), 5_000)

    def unrouted(self) -> list[int]:
        return self.machine.queues.groups[QueueId(self.known.id)].parked.unrouted(0, 10)


class Nobody:
    """Copies nothing by itself."""

    def __init__(self, *_: object) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Iterator[Copied]:
    monkeypatch.setattr(assembly, "DeadLetters", Nobody)
    with formed(Copied()) as cluster:
        yield cluster


@pytest.mark.parametrize("remove", [False, True])
def test_each_parking_is_copied(copied: Copied, remove: bool) -> None:
    """The second was once taken for copied, or even removed, because the first was."""
    copied.begin_to_copy(remove=remove)
    copied.until(lambda: copied.image(copied.lead).cluster_version == CLUSTER_VERSION)
    copied.park([b"bad"])
    copied.meanwhile = copied.park_again
    copied.copy()
    assert copied.unrouted() == [0]
    copied.copy()
    assert copied.unrouted() == []
    assert len({request.message_id for request in copied.requests}) == 2
    headers = [{one.name: one.value for one in request.records[0].headers} for request in copied.requests]
    assert [told["raftmq-dead-letter-reason"] for told in headers] == [b"bad", b"again"]
    parked = copied.machine.queues.groups[QueueId(copied.known.id)].parked
    assert (Offset(0) in parked.offsets) is not remove
