"""Copies of parked messages: what goes to their topic, what is said of it afterwards, and what stays."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from raftmq.broker.queues.dead_letters import BATCH, DeadLetters
from raftmq.errors import NotLeader, UnknownTopic
from raftmq.ids import GroupId
from raftmq.metadata.features import PARKINGS_NAMED
from raftmq.metadata.queue_groups import QueueGroupRecord, QueueSettings
from raftmq.partition.queues.commands import Routed
from raftmq.replica.queues.looking import Peeked
from raftmq.v1 import broker_pb2, types_pb2

PARTITION = GroupId(9)


class Node:
    """Leads one partition, where these are parked; ``refused``: values that the topic of dead letters does not take."""

    def __init__(self, parked: list[Peeked], *, remove: bool = False) -> None:
        settings = QueueSettings(dead_letter_topic="letters", dead_letter_remove=remove)
        partition = SimpleNamespace(partition=0, group=PARTITION)
        topic = SimpleNamespace(topic_id=1, name="orders", partitions=(partition,))
        self.groups = {
            5: QueueGroupRecord(5, 1, "billing", settings),
            6: QueueGroupRecord(6, 1, "plain", QueueSettings()),
        }
        self.image = SimpleNamespace(topics={"orders": topic}, queue_groups=self.groups, cluster_version=PARKINGS_NAMED)
        self.parked = parked
        self.refused: set[bytes] = set()
        self.silent: dict[str, asyncio.Event] = {}
        """Topics of dead letters that answer nobody before this happens."""
        self.requests: list[broker_pb2.ProduceRequest] = []
        self.routed: list[Routed] = []
        self.was_routed = asyncio.Event()
        self.is_leader = True
        self.looked: list[int] = []
        view: Any = SimpleNamespace(cluster=self, host=self, queues=self)
        self.letters = DeadLetters(view, self)

    async def look(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self.letters.look(tasks)

    def leads(self, group: GroupId) -> bool:
        return group == PARTITION

    async def unrouted(self, _partition: GroupId, group: QueueGroupRecord, offset: int, most: int) -> list[Peeked]:
        self.looked.append(group.id)
        if not self.is_leader:
            raise NotLeader("somebody else does")
        return [one for one in self.parked if one.offset >= offset][:most]

    async def ask(self, _partition: GroupId, _group: QueueGroupRecord, op: Routed, _limit_ms: int) -> None:
        self.routed.append(op)
        self.was_routed.set()
        self.parked = [one for one in self.parked if one.offset not in op.offsets]

    async def target(self, _name: str, request: Any, _context: object) -> Any:
        if request.records[0].value in self.refused:
            raise UnknownTopic("it is gone")

    async def answer(self, _name: str, request: Any, _target: object, _context: object) -> Any:
        if request.topic in self.silent:
            await self.silent[request.topic].wait()
        self.requests.append(request)


def letter(offset: int, **known: Any) -> Peeked:
    record = types_pb2.Record(key=b"ann", value=b"%d" % offset, headers=[types_pb2.Header(name="own", value=b"one")])
    told: dict[str, Any] = {"reason": "TOO_MANY_FAILURES", "error": "no such customer", "parked_tick": 77}
    return Peeked(offset, 4, 3, 0, **(told | {"record": record} | known))


async def test_a_copy_tells_where_it_comes_from_and_why() -> None:
    node = Node([letter(0)], remove=True)
    await node.look()
    (request,) = node.requests
    (record,) = request.records
    assert (request.topic, record.key, record.value) == ("letters", b"ann", b"0")
    assert {header.name.removeprefix("raftmq-dead-letter-"): header.value for header in record.headers} == {
        "own": b"one", "topic": b"orders", "partition": b"0", "offset": b"0", "group": b"billing",
        "reason": b"TOO_MANY_FAILURES", "error": b"no such customer", "attempts": b"4", "failures": b"3",
    }  # fmt: skip
    assert [(list(op.offsets), op.remove) for op in node.routed] == [([0], True)]


async def test_what_cannot_be_copied_stays_and_keeps_nobody_behind_it() -> None:
    stuck = [letter(offset) for offset in range(BATCH)]
    node = Node([*stuck, letter(BATCH)])
    node.refused = {b"%d" % one.offset for one in stuck}
    await node.look()
    assert node.routed == []
    await node.look()
    assert [list(op.offsets) for op in node.routed] == [[BATCH]]
    node.refused.clear()
    await node.look()
    assert node.parked == []


async def test_a_copy_goes_again_under_the_same_id_and_the_next_parking_under_another() -> None:
    node = Node([letter(0)])
    for again in ([letter(0)], [letter(0, parked_tick=78)], []):
        await node.look()
        node.parked = again
    first, repeated, parked_again = (request.message_id for request in node.requests)
    assert first == repeated != parked_again


async def test_parkings_are_named_once_all_nodes_understand_it() -> None:
    node = Node([letter(0), letter(1, parked_tick=78)])
    await node.look()
    node.image.cluster_version = PARKINGS_NAMED - 1
    node.parked = [letter(2)]
    await node.look()
    told = [(list(op.offsets), list(op.parked_ticks)) for op in node.routed]
    assert told == [([0, 1], [77, 78]), ([2], [])]


async def test_a_record_that_breaks_limits_is_copied_within_them() -> None:
    wild = types_pb2.Record(timestamp_ms=-1, priority=200, deliver_at_ms=-1, expires_at_ms=-1)
    wild.headers.extend([types_pb2.Header(name="x")] * 300)
    node = Node([letter(0, record=wild)])
    await node.look()
    (record,) = node.requests[0].records
    assert (record.timestamp_ms, record.priority, record.deliver_at_ms, len(record.headers)) == (0, 9, 0, 256)
    assert not record.HasField("key")


async def test_who_leads_no_more_leaves_it_to_the_next_leader() -> None:
    node = Node([letter(0)])
    node.is_leader = False
    await node.look()
    assert (node.looked, node.requests, node.routed) == ([5], [], [])


async def test_what_cannot_be_read_is_not_copied_and_keeps_nobody_behind_it() -> None:
    """It once was copied as an empty record, and then removed."""
    unread = [letter(offset, record=None) for offset in range(BATCH)]
    node = Node([*unread, letter(BATCH)], remove=True)
    await node.look()
    assert (node.requests, node.routed) == ([], [])
    await node.look()
    assert [list(op.offsets) for op in node.routed] == [[BATCH]]
    assert node.parked == unread
    node.parked[3] = letter(3)
    await node.look()
    assert [list(op.offsets) for op in node.routed] == [[BATCH], [3]]
    assert [request.records[0].value for request in node.requests] == [b"%d" % BATCH, b"3"]


async def test_a_topic_that_does_not_answer_keeps_no_other_group() -> None:
    node = Node([letter(0)])
    node.groups[7] = QueueGroupRecord(7, 1, "other", QueueSettings(dead_letter_topic="elsewhere"))
    node.silent["letters"] = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        node.letters.look(tasks)
        await node.was_routed.wait()
        assert [(op.group, request.topic) for op, request in zip(node.routed, node.requests, strict=True)] == [
            (7, "elsewhere")
        ]
        node.letters.look(tasks)
        await asyncio.sleep(0)
        assert node.looked == [5, 7, 7], "what is under way is not begun again"
        node.silent["letters"].set()
    assert [request.topic for request in node.requests] == ["elsewhere", "letters"]
