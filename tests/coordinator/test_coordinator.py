"""What a coordinator does by itself, on groups without Raft."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from raftmq.coordinator.coordinator import REST_LOOK_MS, Beat, Coordinator
from raftmq.coordinator.sessions import GRACE_MS
from raftmq.errors import (
    DeadlineExceeded,
    FencedMember,
    NotLeader,
    NotReady,
    Outcome,
    StaleMember,
    UnknownGroup,
    UnknownMember,
)
from raftmq.groups.commands import Commit
from raftmq.groups.machine import GroupsMachine
from raftmq.groups.types import Member, Position, TopicPartition
from raftmq.ids import GroupId
from raftmq.metadata.events import ClusterVersionRaised
from raftmq.metadata.image import MetadataImage
from raftmq.replica.sealing import Draft
from tests.broker.fakes import image_of, topic_record
from tests.coordinator.fakes import GroupsHost, ManualClock

AT, OTHER = GroupId(21), GroupId(22)
ORDERS = topic_record("orders", [1, 2])
SESSION_MS = 6_000
RETENTION_MS = 86_400_000


class StuckHost(GroupsHost):
    """One Raft group commits nothing while ``stuck`` names it."""

    def __init__(self) -> None:
        super().__init__(lambda group: group not in self.lost)
        self.lost: set[GroupId] = set()
        self.stuck: GroupId | None = None
        self.free = asyncio.Event()
        self.has_no_quorum = False

    async def command(self, group_id: GroupId, draft: Draft, timeout_ms: int) -> object:
        if self.has_no_quorum:
            raise DeadlineExceeded("not committed in time")
        if group_id == self.stuck:
            await self.free.wait()
        return await super().command(group_id, draft, timeout_ms)


class Setting:
    def __init__(self) -> None:
        self.host, self.clock = StuckHost(), ManualClock()
        self.image: MetadataImage = image_of(ORDERS)
        self.is_current = True
        self.coordinator = Coordinator(self.host, lambda: self.image, lambda: self.is_current, self.clock, RETENTION_MS)

    async def beat(
        self, at: GroupId, member_id: str, epoch: int = 0, *owned: int, wait_ms: int = 0, leave: bool = False
    ) -> tuple[int, list[int]]:
        """(epoch, partitions) that the member is told."""
        member = Member(member_id, ("orders",) if epoch == 0 else (), SESSION_MS, SESSION_MS)
        has = frozenset(TopicPartition(ORDERS.topic_id, number) for number in owned)
        standing = await self.coordinator.heartbeat(at, "g", Beat(member, epoch, None, has, leave), wait_ms, 5_000)
        return standing.epoch, [one.partition for one in standing.assigned]

    async def look(self) -> None:
        """Once, and let what can be done be done."""
        self.coordinator.look()
        for _ in range(10):
            await asyncio.sleep(0)

    async def pass_time(self, milliseconds: int) -> None:
        """And look then."""
        self.clock.now += milliseconds
        await self.look()
        await self.look()

    def members(self, at: GroupId) -> set[str]:
        group = self.coordinator.machine(at).groups.get("g")
        return set() if group is None else set(group.members)


@pytest.fixture
async def setting() -> Setting:
    return Setting()


async def test_members_share_and_steady_heartbeats_write_nothing(setting: Setting) -> None:
    assert await setting.beat(AT, "a") == (1, [0, 1])
    assert await setting.beat(AT, "b") == (2, [])
    assert await setting.beat(AT, "a", 1, 0, 1) == (2, [0])
    assert await setting.beat(AT, "a", 2, 0) == (2, [0])
    assert await setting.beat(AT, "b", 2) == (2, [1])
    entries = setting.host.entries
    for _ in range(5):
        assert await setting.beat(AT, "a", 2, 0) == (2, [0])
        assert await setting.beat(AT, "b", 2, 1) == (2, [1])
    assert setting.host.entries == entries


async def test_a_member_that_waits_for_news_hears_of_what_another_one_gives_up(setting: Setting) -> None:
    await setting.beat(AT, "a")
    await setting.beat(AT, "b")
    waiting = asyncio.create_task(setting.beat(AT, "b", 2, wait_ms=60_000))
    await asyncio.sleep(0)
    assert not waiting.done()
    await setting.beat(AT, "a", 2, 0)
    assert await waiting == (2, [1])
    waiting = asyncio.create_task(setting.beat(AT, "b", 2, 1, wait_ms=60_000))
    await asyncio.sleep(0)
    await setting.beat(AT, "a", 2, leave=True)
    assert await waiting == (3, [0, 1])


async def test_a_raft_group_that_commits_nothing_holds_up_no_other_one(setting: Setting) -> None:
    await setting.beat(AT, "a")
    await setting.beat(OTHER, "b")
    await setting.look()
    setting.host.stuck = AT
    setting.clock.now += SESSION_MS + GRACE_MS
    await setting.look()
    assert (setting.members(AT), setting.members(OTHER)) == ({"a"}, set())
    await setting.beat(OTHER, "c")
    setting.clock.now += SESSION_MS
    await setting.look()
    assert (setting.members(AT), setting.members(OTHER)) == ({"a"}, set())
    setting.host.free.set()
    await setting.look()
    assert setting.members(AT) == set()


async def test_who_is_being_taken_for_dead_is_not_told_that_all_is_well(setting: Setting) -> None:
    """Its partitions are free the moment that the expiry is committed, and it would go on reading for a session."""
    assert await setting.beat(AT, "a") == (1, [0, 1])
    await setting.look()
    setting.host.stuck = AT
    setting.clock.now += SESSION_MS + GRACE_MS
    await setting.look()
    waiting = asyncio.create_task(setting.beat(AT, "a", 1, 0, 1))
    with pytest.raises(NotReady):
        await waiting
    setting.host.free.set()
    await setting.look()
    with pytest.raises(UnknownMember):
        await setting.beat(AT, "a", 1, 0, 1)
    assert await setting.beat(AT, "a") == (1, [0, 1])
    await setting.pass_time(SESSION_MS - 1)
    assert await setting.beat(AT, "a", 1, 0, 1) == (1, [0, 1])


async def test_who_does_not_give_up_keeps_what_it_was_told_for_as_long_as_it_may_believe_it(setting: Setting) -> None:
    """What it keeps is not to be given away while it takes its session for valid; it is told nothing more meanwhile."""
    await setting.beat(AT, "a")
    await setting.beat(AT, "b")
    half = SESSION_MS // 2
    await setting.pass_time(0)
    for _ in range(2):
        await setting.pass_time(half - 1)
        assert await setting.beat(AT, "a", 1, 0, 1) == (2, [0])
        assert await setting.beat(AT, "b", 2) == (2, [])
    await setting.pass_time(2)
    with pytest.raises(NotReady):
        await setting.beat(AT, "a", 1, 0, 1)
    await setting.pass_time(half)
    assert setting.members(AT) == {"a", "b"}
    assert await setting.beat(AT, "b", 2) == (2, [])
    await setting.pass_time(half)
    assert setting.members(AT) == {"b"}
    assert await setting.beat(AT, "b", 2) == (3, [0, 1])


async def test_who_joins_anew_behind_its_expiry_stays(setting: Setting) -> None:
    await setting.beat(AT, "a")
    await setting.look()
    setting.host.stuck = AT
    setting.clock.now += SESSION_MS + GRACE_MS
    await setting.look()
    joining = asyncio.create_task(setting.beat(AT, "a"))
    await asyncio.sleep(0)
    setting.host.free.set()
    with contextlib.suppress(NotReady):
        await joining
    await setting.look()
    assert await setting.beat(AT, "a") == (1, [0, 1])
    await setting.look()
    assert setting.members(AT) == {"a"}


async def test_a_new_topic_is_dealt_and_one_that_could_not_be_is_tried_again(setting: Setting) -> None:
    setting.image = image_of()
    assert await setting.beat(AT, "a") == (1, [])
    await setting.look()
    setting.image = image_of(ORDERS)
    setting.is_current = False
    await setting.look()
    assert await setting.beat(AT, "a", 1) == (1, [])
    setting.is_current = True
    setting.host.has_no_quorum = True
    await setting.look()
    assert await setting.beat(AT, "a", 1) == (1, [])
    setting.host.has_no_quorum = False
    await setting.look()
    assert await setting.beat(AT, "a", 1) == (2, [0, 1])


async def test_who_is_no_member_is_told_why(setting: Setting) -> None:
    with pytest.raises(UnknownMember):
        await setting.beat(AT, "a", 1)
    await setting.beat(AT, "a")
    with pytest.raises(UnknownMember):
        await setting.beat(AT, "b", 1)
    with pytest.raises(StaleMember):
        await setting.beat(AT, "a", 2)
    named = Beat(Member("c", ("orders",), SESSION_MS, SESSION_MS, instance_id="i"), 0, None, frozenset())
    await setting.coordinator.heartbeat(AT, "g", named, 0, 5_000)
    again = Beat(Member("d", ("orders",), SESSION_MS, SESSION_MS, instance_id="i"), 0, None, frozenset())
    await setting.coordinator.heartbeat(AT, "g", again, 0, 5_000)
    with pytest.raises(FencedMember):
        await setting.coordinator.heartbeat(
            AT, "g", Beat(Member("c", (), SESSION_MS, SESSION_MS, instance_id="i"), 1, None, frozenset()), 0, 5_000
        )


async def test_who_coordinates_no_more_says_so_and_wakes_those_who_wait(setting: Setting) -> None:
    await setting.beat(AT, "a")
    await setting.look()
    waiting = asyncio.create_task(setting.beat(AT, "a", 1, 0, 1, wait_ms=60_000))
    await asyncio.sleep(0)
    setting.host.lost.add(AT)
    await setting.look()
    with pytest.raises(NotLeader) as refused:
        await waiting
    assert refused.value.outcome is Outcome.NOT_APPLIED
    with pytest.raises(NotLeader):
        setting.coordinator.machine(AT)


async def test_commits_of_one_pass_share_an_entry_and_are_refused_one_by_one(setting: Setting) -> None:
    key = TopicPartition(ORDERS.topic_id, 0)
    await setting.beat(AT, "a")
    before = setting.host.entries
    first, second, stranger = await asyncio.gather(
        setting.coordinator.change(AT, "g", Commit("a", 1, ((key, Position(5)),)), 5_000),
        setting.coordinator.change(AT, "g", Commit("a", 1, ((key, Position(3)),)), 5_000),
        setting.coordinator.change(AT, "g", Commit("b", 1, ((key, Position(9)),)), 5_000),
        return_exceptions=True,
    )
    assert first == [None]
    assert isinstance(second, list)
    assert second[0] is not None
    assert isinstance(stranger, UnknownMember)
    assert setting.host.entries == before + 1
    assert setting.coordinator.group(AT, "g").offsets[key].position.offset == 5
    with pytest.raises(UnknownGroup):
        setting.coordinator.group(AT, "nobody")


async def test_a_group_without_members_is_forgotten_in_the_end(setting: Setting) -> None:
    setting.image = setting.image.replay(ClusterVersionRaised(2))
    key = TopicPartition(ORDERS.topic_id, 0)
    await setting.beat(AT, "a")
    await setting.coordinator.change(AT, "g", Commit("a", 1, ((key, Position(5)),)), 5_000)
    setting.clock.now += RETENTION_MS
    await setting.look()
    await setting.pass_time(REST_LOOK_MS)
    groups = setting.coordinator.machine(AT).groups
    assert groups["g"].resting_since, "time begins to count when nobody is there any more, whatever was committed when"
    await setting.pass_time(RETENTION_MS // 2)
    await setting.coordinator.change(AT, "g", Commit("", 0, ((key, Position(6)),)), 5_000)
    await setting.pass_time(RETENTION_MS // 2)
    assert "g" in groups, "somebody from outside has committed"
    await setting.beat(AT, "b")
    await setting.beat(AT, "b", 3, leave=True)
    await setting.pass_time(RETENTION_MS // 2)
    await setting.pass_time(RETENTION_MS // 2)
    assert "g" in groups, "it had a member again"
    await setting.pass_time(RETENTION_MS)
    assert "g" not in groups
    again = GroupsMachine()
    again.restore(setting.coordinator.machine(AT).all_rows())
    assert again.groups == {}


async def test_nothing_is_forgotten_before_the_cluster_understands_it_nor_without_a_limit(setting: Setting) -> None:
    key = TopicPartition(ORDERS.topic_id, 0)
    await setting.coordinator.change(AT, "g", Commit("", 0, ((key, Position(6)),)), 5_000)
    entries = setting.host.entries
    for _ in range(3):
        await setting.pass_time(2 * RETENTION_MS)
    assert setting.host.entries == entries
    setting.image = setting.image.replay(ClusterVersionRaised(2))
    setting.coordinator._offsets_retention_ms = 0
    for _ in range(3):
        await setting.pass_time(2 * RETENTION_MS)
    assert setting.host.entries == entries


async def test_a_group_that_rests_writes_now_and_then_so_that_time_is_not_lost(setting: Setting) -> None:
    setting.image = setting.image.replay(ClusterVersionRaised(2))
    key = TopicPartition(ORDERS.topic_id, 0)
    await setting.coordinator.change(AT, "g", Commit("", 0, ((key, Position(6)),)), 5_000)
    await setting.pass_time(REST_LOOK_MS)
    entries = setting.host.entries
    for _ in range(120):
        await setting.pass_time(REST_LOOK_MS)
    assert setting.host.entries == entries + 2
