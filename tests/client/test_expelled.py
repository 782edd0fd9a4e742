"""A member of a consumer group that a commit is told of first that it is none any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmq.client import group_consumer
from raftmq.client.coordinator import CoordinatorCalls
from raftmq.client.fetcher import FetchSettings
from raftmq.client.group_consumer import GroupConsumer
from raftmq.client.group_types import CommitMode, GroupSettings
from raftmq.client.membership import MemberSettings, Partition
from raftmq.client.retry import RetryPolicy
from raftmq.client.router import Router
from raftmq.client.types import ConsumedBatch, ConsumedRecord
from raftmq.errors import FencedMember, UnknownMember
from raftmq.v1 import groups_pb2

HOUR_MS = 3_600_000
KEY = ("orders", 0)


class Coordinator(CoordinatorCalls):
    """Answers a heartbeat with news at once, or never: nothing here may need the next one in turn."""

    def __init__(self) -> None:
        super().__init__(cast(Router, SimpleNamespace(policy=RetryPolicy(initial_ms=1, max_ms=1))), "billing")
        self.joined: list[str] = []
        self.expelled: set[str] = set()
        self.is_fenced = False
        self.is_forgiving = False
        """Heartbeats know all members, whatever commits say."""
        self.is_joined = asyncio.Event()
        self.committed = 0

    def expel_all(self) -> None:
        self.expelled = set(self.joined)
        self.is_joined.clear()

    async def once(self, select: Any, request: Any, *, timeout_ms: int) -> Any:
        is_expelled = request.member_id in self.expelled
        match request:
            case groups_pb2.HeartbeatRequest():
                return await self._heartbeat(request, is_expelled and not self.is_forgiving)
            case _ if is_expelled:
                raise UnknownMember("its session expired", field="member_id")
            case groups_pb2.CommitOffsetsRequest():
                self.committed = request.offsets[0].offset
                return groups_pb2.CommitOffsetsResponse()
            case _:
                one = groups_pb2.CommittedOffset(topic="orders", partition=0, offset=self.committed)
                return groups_pb2.FetchOffsetsResponse(offsets=[one])

    async def _heartbeat(self, request: groups_pb2.HeartbeatRequest, is_expelled: bool) -> Any:
        if request.member_epoch == 0:
            self.joined.append(request.member_id)
            self.is_joined.set()
        elif is_expelled and self.is_fenced and request.instance_id:
            raise FencedMember("another one goes by this instance id", field="instance_id")
        elif is_expelled:
            raise UnknownMember("its session expired", field="member_id")
        elif request.owned:
            await asyncio.Event().wait()  # no news
        assigned = [groups_pb2.TopicPartitions(topic="orders", partitions=[0])]
        return groups_pb2.HeartbeatResponse(member_epoch=len(self.joined), assigned=assigned)


class Fetcher:
    """A partition of which each record is a batch."""

    def __init__(self, topic: str, partition: int, *_: object, start: int, on_change: Callable[[], None], **__: object):
        self._next = start
        self._on_change = on_change

    def start(self) -> None:
        self._on_change()

    async def stop(self) -> None: ...

    def take(self) -> ConsumedBatch:
        offset = self._next
        self._next += 1
        record = ConsumedRecord("orders", 0, offset, None, b"%d" % offset, (), None, 0, 1)
        return ConsumedBatch("orders", 0, (record,), self._next, self._next)


class Told:
    """What the program is told."""

    def __init__(self) -> None:
        self.lost: list[Sequence[Partition]] = []
        self.is_lost = asyncio.Event()

    def __call__(self, partitions: Sequence[Partition]) -> None:
        self.lost.append(partitions)
        self.is_lost.set()


def consumer(
    coordinator: Coordinator, told: Told, commit: CommitMode = "manual", instance_id: str = ""
) -> GroupConsumer:
    async def topic(_name: str) -> None: ...

    router: Any = SimpleNamespace(metadata=SimpleNamespace(topic=topic))
    member = MemberSettings(("orders",), 1, HOUR_MS, HOUR_MS, instance_id=instance_id)
    settings = GroupSettings(commit, 1, "earliest", HOUR_MS, 0, on_lost=told)
    return GroupConsumer(("orders",), router, coordinator, cast(FetchSettings, None), member, settings)


@pytest.fixture(autouse=True)
def records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_consumer, "PartitionFetcher", Fetcher)


async def test_it_stops_reading_and_joins_anew_at_once() -> None:
    coordinator, told = Coordinator(), Told()
    async with consumer(coordinator, told) as member:
        await anext(member)
        await member.commit()
        record = await anext(member)
        assert record.offset == 1
        coordinator.expel_all()
        with pytest.raises(UnknownMember):
            await member.commit()
        assert member.assignment == (), "what it read may be others' by now"
        again = await anext(member)
        assert again.offset == 1, "what was not committed comes again, under the new membership"
        await member.commit()
        assert coordinator.committed == 2
    assert len(set(coordinator.joined)) == len(coordinator.joined) == 2
    assert told.lost == [[KEY]], "once"


async def test_a_commit_in_the_background_tells_it_as_well() -> None:
    coordinator, told = Coordinator(), Told()
    async with consumer(coordinator, told, commit="after") as member:
        await anext(member)
        coordinator.expel_all()
        await anext(member)  # the first is done, and to be committed
        await coordinator.is_joined.wait()
        await told.is_lost.wait()
    assert len(set(coordinator.joined)) == 2


async def test_whose_instance_id_is_another_s_does_not_take_its_place_back() -> None:
    """Commits do not name the instance id: only a heartbeat is told who has it now."""
    coordinator, told = Coordinator(), Told()
    coordinator.is_fenced = True
    async with consumer(coordinator, told, instance_id="till-1") as member:
        await anext(member)
        coordinator.expel_all()
        with pytest.raises(UnknownMember):
            await member.commit()
        with pytest.raises(FencedMember):
            await anext(member)
    assert len(coordinator.joined) == 1


async def test_who_is_a_member_after_all_reads_on() -> None:
    """The commit was answered by somebody who did not know better."""
    coordinator, told = Coordinator(), Told()
    coordinator.is_forgiving = True
    async with consumer(coordinator, told) as member:
        await anext(member)
        coordinator.expel_all()
        with pytest.raises(UnknownMember):
            await member.commit()
        coordinator.expelled.clear()
        assert (await anext(member)).offset == 0
    assert len(coordinator.joined) == 1


async def test_whose_session_ran_out_while_it_asked_where_to_begin_takes_nothing_up() -> None:
    """The program was stopped meanwhile, say: it must not be told that something is its own, and maybe another's."""
    coordinator, told = Coordinator(), Told()
    fetched: list[int] = []
    member = consumer(coordinator, told)

    def assigned(_: Sequence[Partition]) -> None:
        assert len(fetched) == 2, "the second time its session is valid"

    async def fetch(partitions: Sequence[Partition]) -> None:
        fetched.append(len(partitions))
        member._commits.committed[KEY] = 0
        hour_s = HOUR_MS / 1000 if len(fetched) > 1 else 0
        member._membership._valid_until = asyncio.get_running_loop().time() + hour_s

    member._settings = replace(member._settings, on_assigned=assigned)
    member._commits.fetch = fetch  # type: ignore[method-assign, assignment]
    async with member:
        assert (await anext(member)).offset == 0


async def test_what_is_told_of_a_membership_that_is_over_changes_nothing() -> None:
    coordinator, told = Coordinator(), Told()
    async with consumer(coordinator, told) as member:
        await anext(member)
        member._membership.refused("somebody else")
        assert member.assignment == (KEY,)
        assert (await anext(member)).offset == 1
    assert not told.lost
